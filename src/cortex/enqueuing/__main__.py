"""The process itself: `python -m cortex.enqueuing check|list|enqueue`, started by cortex.enqueuing.process.

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
from cortex.domain.layout import JobFolder
from cortex.enqueuing.enqueue import enqueue
from cortex.enqueuing.events import EnqueuingFailed, Event, Refused, Request, read_request, write_event
from cortex.enqueuing.look import check, list_all
from cortex.files.patience import Patience
from cortex.files.places import AllFiles
from cortex.worker.kernel import die_with_parent, name_process

_SOMEBODY_WAITS: Final = Patience(attempts=4, connect_timeout_seconds=3.0, read_timeout_seconds=10.0)
"""Who submits wants to know within a minute that a storage does not answer."""


def main(action: str) -> int:
    """Do what is asked for; give the exit code."""
    name_process("cortex-enqueue")
    request = read_request(sys.stdin.buffer.read())
    die_with_parent()
    if os.getppid() != request.parent:
        return 1
    write = take_standard_output()

    def tell(event: Event) -> None:
        write(write_event(event))

    try:
        _act(action, request, tell)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
        tell(EnqueuingFailed(reason=reason) if action == "enqueue" else Refused(message=reason, hint=None))
    return 0


def _act(action: str, request: Request, tell: Callable[[Event], None]) -> None:
    allowed = None if request.allowed is None else tuple(map(Path, request.allowed))
    files = AllFiles(allowed=allowed, patience=None if action == "enqueue" else _SOMEBODY_WAITS)
    if action != "enqueue":
        {"check": check, "list": list_all}[action](files, request.source, tell)
        return
    if request.folder is None:
        raise ValueError("the folder of the job is missing")
    folder = JobFolder(Path(request.folder))
    folder.root.mkdir(parents=True, exist_ok=True)
    # One enqueuer at a time: a killed one that has not quite ended might reset states that count already.
    lock = os.open(folder.root, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        enqueue(files, request.source, folder, tell, resume=request.resume, segment_bytes=request.segment_bytes)
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
