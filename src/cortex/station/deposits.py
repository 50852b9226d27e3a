"""Leaving large parts of what a Worker has returned in the storage, so that they need not go over the channel."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cortex.depositing.pause import Pause
from cortex.depositing.places import MOST_ROWS_BYTES, JobPlace, RowsName
from cortex.domain.errors import FilesError
from cortex.files.files import Files
from cortex.files.places import AllFiles
from cortex.station.in_time import InTime, NotInTime
from cortex.station.payloads import HURRIED

LEAST_BYTES: Final = 1024 * 1024
"""What is smaller goes over the channel: to leave it, and have it copied, takes longer."""


@dataclass(slots=True, kw_only=True)
class Deposits:
    """See the module. For one thread at a time."""

    root: str
    job_id: str
    worker: str
    files: Files = field(default_factory=lambda: AllFiles(patience=HURRIED))
    in_time: InTime = field(default_factory=InTime)
    monotonic: Callable[[], float] = time.monotonic
    why_not: str = ""  # why the last one could not be left there; empty where it could
    _pause: Pause = field(default_factory=Pause)

    def takes(self, size: int) -> bool:
        """Tell whether so many bytes of rows are to be left there; never more than MOST_ROWS_BYTES at once."""
        return LEAST_BYTES <= size <= MOST_ROWS_BYTES and not self._pause.is_on(self.monotonic())

    def leave(self, offset: int, data: bytes) -> str | None:
        """Leave rows there that begin at an offset; give the name that the operator finds them by.

        None where that has failed: they go over the channel, and nothing is tried for a while.
        """
        name = RowsName.of(offset, data)
        url = JobPlace(self.root, self.job_id).rows(self.worker, name)
        try:
            self.in_time.call(lambda: self.files.write(url, data))
        except (FilesError, NotInTime) as error:
            self.pause(str(getattr(error, "message", error)))
            return None
        self.why_not = ""
        self._pause.forget()
        return str(name)

    def pause(self, why: str) -> None:
        """Leave nothing there for a while, which becomes longer each time."""
        self.why_not = why
        self._pause.begin(self.monotonic())
