"""Has what the replicas of a version are started with made ready, again and again until that succeeds."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cortex.domain.errors import CortexError
from cortex.domain.timing import Timer
from cortex.serving.replica_order import ReplicaSetup
from cortex.serving.rollout import backoff_seconds
from cortex.serving.surroundings import SetUp
from cortex.storage.ledger import Version


@dataclass(slots=True, kw_only=True)
class Readiness:
    """See the module."""

    set_up: SetUp
    call_later: Timer
    log: Callable[[str], None]
    ready: Callable[[ReplicaSetup], None]
    failed: Callable[[], None]
    problem: str | None = None  # why the last attempt has failed
    _attempt: int = 0  # its number: what an earlier one tells is of no interest
    _failures: int = 0

    def prepare(self, version: Version) -> None:
        """Make a version ready, and no other one any more; `ready` or `failed` is called, perhaps at once."""
        self._attempt += 1
        self.set_up(version, partial(self._log, self._attempt), partial(self._outcome, version, self._attempt))

    def cancel(self) -> None:
        """Make nothing ready any more."""
        self._attempt += 1

    def _log(self, attempt: int, line: str) -> None:
        if attempt == self._attempt:  # that of an API that is deleted is removed, and must not come back
            self.log(line)

    def _outcome(self, version: Version, attempt: int, outcome: ReplicaSetup | CortexError) -> None:
        if attempt != self._attempt:
            return
        if not isinstance(outcome, CortexError):
            self.problem, self._failures = None, 0
            self.ready(outcome)
            return
        self.problem = outcome.message
        self._failures += 1
        self.log(str(outcome))
        # Ever more seldom, but never given up: an index of packages may be out of reach for a while.
        self.call_later(60.0 * backoff_seconds(self._failures), partial(self._again, version, attempt))
        self.failed()

    def _again(self, version: Version, attempt: int) -> None:
        if attempt == self._attempt:
            self.prepare(version)
