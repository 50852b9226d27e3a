"""The process itself, started by `cortex.depositing.process`; its actions are check, upload, copy, find and remove."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from cortex.child_process.child import answer, run_fresh
from cortex.depositing.copying import copy
from cortex.depositing.events import WORDS, Done, Event, Failed, Found, Request
from cortex.depositing.places import JobPlace
from cortex.depositing.removing import check, jobs_there, remove_jobs
from cortex.depositing.upload import upload
from cortex.domain.errors import FilesError
from cortex.domain.layout import JobFolder
from cortex.files.patience import SOMEBODY_WAITS, Patience
from cortex.files.places import AllFiles

_COPYING: Final = Patience(attempts=3, connect_timeout_seconds=3.0, read_timeout_seconds=10.0)
"""A Worker waits, and what cannot be copied soon comes over the channel."""

_PATIENCE: Final = {"check": SOMEBODY_WAITS, "copy": _COPYING}


def main(action: str) -> int:
    """Do what is asked for; give the exit code."""
    return answer("cortex-deposit", WORDS, partial(_act, action), lambda reason: Failed(reason=reason))


def _act(action: str, request: Request, tell: Callable[[Event], None]) -> None:
    files = AllFiles(patience=_PATIENCE.get(action))
    try:
        if action == "check":
            check(files, request.root)
        elif action == "upload":
            place = JobPlace(request.root, request.job_id)
            upload(files, place, JobFolder(Path(request.folder)), request.pieces, tell)
        elif action == "copy":
            copy(files, request.root, request.copies, tell)
        elif action == "find":
            for job_id in jobs_there(files, request.root):
                tell(Found(job_id=job_id))
        else:
            remove_jobs(files, request.root, request.jobs)
    except FilesError as error:
        tell(Failed(reason=error.message, hint=error.hint))
    else:
        tell(Done())


if __name__ == "__main__":
    sys.exit(run_fresh(main))
