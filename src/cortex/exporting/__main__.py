"""The process itself, started by `cortex.exporting.process`; its actions are check, write and verify."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from cortex.child_process.child import answer, one_at_a_time, run_fresh
from cortex.domain.errors import FilesError
from cortex.domain.layout import JobFolder
from cortex.exporting.events import WORDS, Ended, Event, Refused, Request, Verified, WritingFailed, Written
from cortex.exporting.look import check
from cortex.exporting.verify import verify
from cortex.exporting.write import PART_BYTES, write
from cortex.files.fence import read_allowed
from cortex.files.patience import SOMEBODY_WAITS, Patience
from cortex.files.places import AllFiles
from cortex.storage.files import NO_ROOM
from cortex.storage.results import ResultDamaged
from cortex.storage.segments import SegmentDamaged

_TOLD_EACH_TIME: Final = Patience(attempts=2)
"""While results are written, the patience is ours: so that somebody hears of it."""

_Tell = Callable[[Event], None]


def main(action: str) -> int:
    """Do what is asked for; give the exit code."""
    return answer("cortex-export", WORDS, partial(_act, action), partial(_failed, action))


def _act(action: str, request: Request, tell: _Tell) -> None:
    tell({"check": _check, "write": _write, "verify": _verify}[action](request, tell))


def _failed(action: str, reason: str) -> Event:
    return WritingFailed(reason=reason) if action == "write" else Refused(message=reason, hint=None)


def _files(request: Request, patience: Patience) -> AllFiles:
    return AllFiles(allowed=read_allowed(request.allowed), patience=patience)


def _check(request: Request, _: _Tell) -> Event:
    if request.output is None:
        raise ValueError("there is nothing to check")
    return check(_files(request, SOMEBODY_WAITS), request.output)


def _write(request: Request, tell: _Tell) -> Written | WritingFailed:
    ended, folder = _ended(request)
    try:
        with one_at_a_time(folder.root):
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


def _verify(request: Request, _: _Tell) -> Event:
    ended, folder = _ended(request)
    return Verified(findings=verify(_files(request, SOMEBODY_WAITS), ended, folder))


def _ended(request: Request) -> tuple[Ended, JobFolder]:
    if request.ended is None:
        raise ValueError("the job is missing")
    return request.ended, JobFolder(Path(request.ended.folder))


if __name__ == "__main__":
    sys.exit(run_fresh(main))
