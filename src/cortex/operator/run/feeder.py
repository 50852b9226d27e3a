"""Who gets the next Lease of a Job, and what happens when some Workers hold what others could do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cortex.domain.lease import Lease
from cortex.domain.timing import Timer
from cortex.engines.engine import Connection
from cortex.operator.run.attempts import Attempts
from cortex.operator.run.reclaim import Reclaim
from cortex.operator.run.workers import WorkerView

_PATIENCE_SECONDS: Final = 0.01
"""How long Workers go without a Lease before others give some up: at the end of a Job, most Leases are shorter."""

_MOST_AT_ONCE: Final = 32
"""How many Leases are cut short in one go: each costs the operator about as much as a new one."""


@dataclass(slots=True)
class Feeder:
    """Leases to Workers that wait; where nothing is left to lease, it sees to it that no one hoards.

    It touches those that have nothing to do, and never looks at all Workers.
    """

    attempts: Attempts
    workers: Mapping[str, WorkerView]
    reclaim: Reclaim
    may_lease: Callable[[], bool]
    call_later: Timer
    _idle: dict[str, None] = field(default_factory=dict)  # the first one was offered first; some may be gone
    _is_watching: bool = False

    def offer(self, worker: str) -> None:
        """Take notice of a Worker that may have become free: it can be told what to do, or its Lease has ended."""
        self._idle[worker] = None

    def idle(self) -> list[str]:
        """Give the Workers that can be told what to do and hold no Lease."""
        for worker in [worker for worker in self._idle if not self._is_idle(worker)]:
            del self._idle[worker]
        return list(self._idle)

    def feed(self) -> None:
        """Lease to the Workers that wait, as far as there is something to lease."""
        if not self.may_lease():
            return
        while self._idle and self.attempts.dispatch.queued:
            worker = next(iter(self._idle))
            if self._is_idle(worker):
                self._lease(worker)
            self._idle.pop(worker)
        if self._idle and not self.attempts.dispatch.is_done and not self._is_watching:
            self._is_watching = True
            self.call_later(_PATIENCE_SECONDS, self._take_back)

    def _is_idle(self, worker: str) -> bool:
        view = self.workers.get(worker)
        return view is not None and view.is_waiting and self.attempts.dispatch.held_by(worker) is None

    def _lease(self, worker: str) -> None:
        connection = self.workers[worker].connection
        if connection is None:
            return
        most_bytes = connection.elsewhere.most_lease_bytes if connection.elsewhere else None
        lease = self.attempts.dispatch.lease(worker, most_bytes=most_bytes)
        if lease is not None:
            self._tell(worker, connection, lease)

    def _tell(self, worker: str, connection: Connection, lease: Lease) -> None:
        try:
            connection.send(self.attempts.frame(lease))
        except Exception:
            self.attempts.dispatch.release(worker)  # of what it is not told of, nothing would ever come
            raise

    def _take_back(self) -> None:
        """Take what has not begun from the Workers with the most of it: as many as there are without any."""
        self._is_watching = False
        idle = len(self.idle())
        if idle:
            self.reclaim.cut_short(self.attempts.dispatch.unstarted(min(idle, _MOST_AT_ONCE)), self.feed)
