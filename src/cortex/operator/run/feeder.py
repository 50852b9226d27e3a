"""Who gets the next Lease of a Job, and what happens when one Worker holds what others could do."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cortex.domain.lease import TARGET_SECONDS, Lease
from cortex.operator.run.attempts import Attempts
from cortex.operator.run.workers import Connection, WorkerView

_SETTLE_SECONDS: Final = 0.005
"""Long enough for a Worker to name on its page the Batch that it has begun."""


@dataclass(slots=True)
class Feeder:
    """Leases to Workers that wait; where nothing is left to lease, it sees to it that no one hoards."""

    attempts: Attempts
    workers: Mapping[str, WorkerView]
    may_lease: Callable[[], bool]
    call_later: Callable[[float, Callable[[], None]], Callable[[], None]]
    _is_hungry: bool = False
    _is_watching: bool = False

    def feed_one(self, worker: str) -> None:
        """Lease to one Worker that has just ended its Lease, and to others if that has left something for them."""
        self._feed(self.workers if self._is_hungry and self.attempts.dispatch.queued else [worker])

    def feed_all(self) -> None:
        """Lease to every Worker that waits."""
        self._feed(self.workers)

    def _feed(self, workers: Iterable[str]) -> None:
        if not self.may_lease():
            return
        self._is_hungry = False
        for worker in workers:
            view = self.workers[worker]
            if view.is_waiting and self.attempts.dispatch.held_by(worker) is None:
                lease = self.attempts.dispatch.lease(worker)
                if lease is None:
                    self._is_hungry = True
                elif view.connection is not None:
                    self._tell(worker, view.connection, lease)
        if self._is_hungry and not self.attempts.dispatch.is_done and not self._is_watching:
            self._is_watching = True
            self.call_later(TARGET_SECONDS, self._take_back)

    def _tell(self, worker: str, connection: Connection, lease: Lease) -> None:
        try:
            frame = self.attempts.frame(lease)
        except Exception:
            self.attempts.dispatch.release(worker)  # of what it is not told of, nothing would ever come
            raise
        connection.send(frame)

    def _take_back(self) -> None:
        """Take what has not begun from the Worker with the most of it: somebody has waited as long as a Lease is."""
        self._is_watching = False
        hoarded = self.attempts.dispatch.largest_unstarted() if self._is_hungry else None
        if hoarded is None:
            return
        self.attempts.dispatch.take_back(hoarded)

        def settled() -> None:
            self.attempts.shorten(hoarded)
            self.feed_all()

        self.call_later(_SETTLE_SECONDS, settled)
