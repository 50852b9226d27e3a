"""The process itself, started by `cortex.fetching.process`; its only action is fetch."""

import sys
from collections.abc import Callable
from pathlib import Path

from cortex.child_process.child import answer, run_fresh
from cortex.domain.errors import FilesError, ModelFailed
from cortex.fetching.events import WORDS, Event, Failed, Here, Request
from cortex.fetching.fetch import fetch, find_here, is_on_this_machine
from cortex.files.fence import read_allowed
from cortex.files.places import AllFiles
from cortex.storage.files import NO_ROOM


def main(_: str) -> int:
    """Do what is asked for; give the exit code."""
    return answer("cortex-fetch", WORDS, _act, lambda reason: Failed(reason=reason))


def _act(request: Request, tell: Callable[[Event], None]) -> None:
    try:
        tell(_fetch(request, tell))
    except (FilesError, ModelFailed) as error:
        tell(Failed(reason=error.message, hint=error.hint))
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        tell(Failed(reason="the operator's disk is full", hint="have space made on it; `cortex prune` may help"))


def _fetch(request: Request, tell: Callable[[Event], None]) -> Here:
    files = AllFiles(allowed=read_allowed(request.allowed))
    if is_on_this_machine(request.url):
        return Here(path=str(find_here(files, request.predictor_type, request.url)))
    return fetch(files, request.predictor_type, request.url, Path(request.models), Path(request.unfinished), tell)


if __name__ == "__main__":
    sys.exit(run_fresh(main))
