"""The process itself, started by `cortex.enqueuing.process`; its actions are check, list and enqueue."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cortex.child_process.child import answer, one_at_a_time, run_fresh
from cortex.domain.layout import JobFolder
from cortex.enqueuing.enqueue import enqueue
from cortex.enqueuing.events import WORDS, EnqueuingFailed, Event, Refused, Request
from cortex.enqueuing.look import check, list_all
from cortex.files.fence import read_allowed
from cortex.files.patience import SOMEBODY_WAITS
from cortex.files.places import AllFiles

_Tell = Callable[[Event], None]


def main(action: str) -> int:
    """Do what is asked for; give the exit code."""
    return answer("cortex-enqueue", WORDS, partial(_act, action), partial(_failed, action))


def _act(action: str, request: Request, tell: _Tell) -> None:
    {"check": _check, "list": _list, "enqueue": _enqueue}[action](request, tell)


def _failed(action: str, reason: str) -> Event:
    return EnqueuingFailed(reason=reason) if action == "enqueue" else Refused(message=reason, hint=None)


def _check(request: Request, tell: _Tell) -> None:
    check(AllFiles(allowed=read_allowed(request.allowed), patience=SOMEBODY_WAITS), request.source, tell)


def _list(request: Request, tell: _Tell) -> None:
    list_all(AllFiles(allowed=read_allowed(request.allowed), patience=SOMEBODY_WAITS), request.source, tell)


def _enqueue(request: Request, tell: _Tell) -> None:
    if request.folder is None:
        raise ValueError("the folder of the job is missing")
    files, folder = AllFiles(allowed=read_allowed(request.allowed)), JobFolder(Path(request.folder))
    folder.root.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.root):
        enqueue(
            files,
            request.source,
            folder,
            tell,
            resume=request.resume,
            segment_bytes=request.segment_bytes,
            in_place_from_bytes=request.in_place_from_bytes,
        )


if __name__ == "__main__":
    sys.exit(run_fresh(main))
