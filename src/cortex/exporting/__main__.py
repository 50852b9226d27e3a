"""The process itself: `python -m cortex.exporting check|write|verify`, started by cortex.exporting.process.

It reads a Request from standard input and writes events to standard output. Nothing else comes there: what libraries
print goes to standard error.
"""

import fcntl
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex.child_process import take_standard_output
from cortex.domain.errors import FilesError
from cortex.domain.layout import JobFolder
from cortex.exporting.events import (
    Ended,
    Event,
    Refused,
    Request,
    Verified,
    WritingFailed,
    Written,
    read_request,
    write_event,
)
from cortex.exporting.look import check
from cortex.exporting.verify import verify
from cortex.exporting.write import PART_BYTES, write
from cortex.files.patience import Patience
from cortex.files.places import AllFiles
from cortex.storage.files import NO_ROOM
from cortex.storage.results import ResultDamaged
from cortex.storage.segments import SegmentDamaged
from cortex.worker.kernel import die_with_parent, name_process

_SOMEBODY_WAITS: Final = Patience(attempts=4, connect_timeout_seconds=3.0, read_timeout_seconds=10.0)
"""Who submits wants to know within a minute that a storage does not answer."""

_TOLD_EACH_TIME: Final = Patience(attempts=2)
"""While results are written, the patience is ours: so that somebody hears of it."""


def main(action: str) -> int:
    """Do what is asked for; give the exit code."""
    name_process("cortex-export")
    request = read_request(sys.stdin.buffer.read())
    die_with_parent()
    if os.getppid() != request.parent:
        return 1
    write_line = take_standard_output()

    def tell(event: Event) -> None:
        write_line(write_event(event))

    try:
        tell({"check": _check, "write": _write, "verify": _verify}[action](request, tell))
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        tell(WritingFailed(reason=reason) if action == "write" else Refused(message=reason, hint=None))
    return 0


def _files(request: Request, patience: Patience) -> AllFiles:
    allowed = None if request.allowed is None else tuple(map(Path, request.allowed))
    return AllFiles(allowed=allowed, patience=patience)


def _check(request: Request, _: Callable[[Event], None]) -> Event:
    if request.output is None:
        raise ValueError("there is nothing to check")
    return check(_files(request, _SOMEBODY_WAITS), request.output)


def _write(request: Request, tell: Callable[[Event], None]) -> Written | WritingFailed:
    ended, folder = _ended(request)
    # One at a time: a killed one that has not quite ended might write what the next one has removed.
    lock = os.open(folder.root, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return write(
            _files(request, _TOLD_EACH_TIME),
            ended,
            folder,
            tell,
            is_success=request.is_success,
            patience_seconds=request.patience_seconds,
            part_bytes=request.part_bytes or PART_BYTES,
        )
    except FilesError as error:
        return WritingFailed(reason="; ".join(filter(None, [error.message, error.hint])))
    except (ResultDamaged, SegmentDamaged) as error:
        return WritingFailed(reason=str(error))
    except ModuleNotFoundError as error:
        return WritingFailed(reason=f"the operator has no {error.name}: install `cortex[parquet]` where it runs")
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        return WritingFailed(reason="the operator's disk is full; have space made on it")
    finally:
        os.close(lock)


def _verify(request: Request, _: Callable[[Event], None]) -> Event:
    ended, folder = _ended(request)
    return Verified(findings=verify(_files(request, _SOMEBODY_WAITS), ended, folder))


def _ended(request: Request) -> tuple[Ended, JobFolder]:
    if request.ended is None:
        raise ValueError("the job is missing")
    return request.ended, JobFolder(Path(request.ended.folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
