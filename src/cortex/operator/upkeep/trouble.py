"""What could not be handled so far and is tried again: a full disk, mostly."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import time_ns


@dataclass(slots=True, kw_only=True, eq=False)
class Trouble:
    """Something of a Job that fails since then."""

    job_id: str
    since_ns: int
    message: str


@dataclass(slots=True, kw_only=True)
class Troubles:
    """All that there is at the moment."""

    now_ns: Callable[[], int] = time_ns
    _all: list[Trouble] = field(default_factory=list)

    def note(self, trouble: Trouble | None, about: str, error: Exception) -> Trouble:
        """Take notice of a failure, the first or a further one; `about` is the id of a Job, or of a Worker of it."""
        if trouble is None:
            trouble = Trouble(job_id=about.partition("-")[0], since_ns=self.now_ns(), message="")
            self._all.append(trouble)
        trouble.message = str(error) or type(error).__name__
        return trouble

    def forget(self, trouble: Trouble | None) -> None:
        """It is over."""
        if trouble in self._all:
            self._all.remove(trouble)

    def of(self, job_id: str) -> Trouble | None:
        """Give what fails longest of a Job."""
        return next((trouble for trouble in self._all if trouble.job_id == job_id), None)
