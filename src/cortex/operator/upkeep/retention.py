"""Removes ended Jobs, with their folders, once they need not be kept any longer."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

from cortex.domain.job import Job
from cortex.domain.retention import KeepJobs
from cortex.domain.timing import Background, Timer
from cortex.storage.files import remove_at_once
from cortex.storage.ledger import Ledger

logger = logging.getLogger(__name__)

SLICE: Final = 100
"""So many Jobs are removed at a time: the operator's thread is busy for some milliseconds, and then answers others."""

_SOON_SECONDS: Final = 0.2
_FIRST_LOOK_SECONDS: Final = 2.0
_LOOK_AGAIN_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 60.0
_HELD_SECONDS: Final = 2.0
_NS_PER_MICROSECOND: Final = 1000


@dataclass(slots=True, kw_only=True)
class Retention:
    """See the module. All methods are called from the operator's thread.

    A Job's rows go first, durably, and then its folder: what a crash between the two leaves, recovery removes.
    """

    ledger: Ledger
    keep: KeepJobs
    root: Path  # of the Jobs' folders
    now_ns: Callable[[], int]
    call_later: Timer
    background: Background
    forgotten: Callable[[], None]  # told when versions may be gone with their last Job
    is_held: Callable[[str], bool] = lambda _: False  # a Job whose folder somebody needs for a moment longer
    _due: set[str] = field(default_factory=set)  # APIs of which Jobs have ended
    _is_removing: bool = False

    def recover(self) -> None:
        """Begin: look soon, and then every hour."""
        if self.keep != KeepJobs():
            self.call_later(_FIRST_LOOK_SECONDS, self._look_at_all)

    def job_ended(self, job: Job) -> None:
        """Make room, soon, for a Job that has just ended, and for those that end until then."""
        if self.keep.count is not None:
            if not self._due:
                self.call_later(_SOON_SECONDS, partial(self._look_at, ()))
            self._due.add(job.api_name)

    def _look_at_all(self) -> None:
        self.call_later(_LOOK_AGAIN_SECONDS, self._look_at_all)
        self._look_at(version.api_name for version in self.ledger.versions())

    def _look_at(self, api_names: Iterable[str]) -> None:
        self._due.update(api_names)
        if not self._is_removing:
            self._is_removing = True
            self._go_on()

    def _go_on(self) -> None:
        """Remove a slice and come back, until there is nothing left to remove."""
        try:
            found = self._find()
            removable = [job_id for job_id in found if not self.is_held(job_id)]
            if removable:
                self.ledger.delete_jobs(removable)
                self.forgotten()
        except Exception:
            logger.exception("ended jobs cannot be removed; it is tried again in a minute")
            self.call_later(_RETRY_SECONDS, self._go_on)
            return
        if removable:
            folders = [self.root / job_id for job_id in removable]
            self.background(partial(remove_at_once, folders), self._go_on)
        elif found:
            self.call_later(_HELD_SECONDS, self._go_on)
        else:
            self._is_removing = False

    def _find(self) -> Sequence[str]:
        """Give some Jobs that are to go; APIs that have none too many are due no more."""
        if self.keep.age is not None:
            before_ns = self.now_ns() - self.keep.age // timedelta(microseconds=1) * _NS_PER_MICROSECOND
            if too_old := self.ledger.jobs_ended_before(before_ns, limit=SLICE):
                return too_old
        for name in list(self._due) if self.keep.count is not None else []:
            if too_many := self.ledger.ended_jobs_beyond(name, self.keep.count or 0, limit=SLICE):
                return too_many
            self._due.discard(name)
        return []
