"""Taking back from the holders of Leases what they have not begun.

Here, a Worker sees on its page at once how far it may go. Elsewhere its station must tell it, and answers when the page
here shows what the Worker has begun all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from cortex.domain.lease import SETTLE_SECONDS, Lease
from cortex.domain.timing import Timer
from cortex.operator.run.attempts import Attempts
from cortex.operator.run.workers import WorkerView


@dataclass(slots=True, kw_only=True)
class Reclaim:
    """See the module."""

    attempts: Attempts
    workers: Mapping[str, WorkerView]
    call_later: Timer
    handle: Callable[[Callable[[], None]], None]  # handles what has happened, again and again if need be
    _asked: dict[str, int] = field(default_factory=dict)  # of Workers elsewhere that were told: the Lease, by its token

    def cut_short(self, leases: Iterable[Lease], then: Callable[[], None]) -> None:
        """Queue again what was not begun under these Leases; `then` is called each time that some of it is queued."""
        here = []
        for lease in leases:
            limit = self.attempts.dispatch.take_back(lease)
            if limit is None:
                here.append(lease)
            elif self._asked.get(lease.worker) != lease.token:
                self._tell(lease, limit, partial(self._shorten, [lease], then, limit))
        if here:
            self.call_later(SETTLE_SECONDS, partial(self._shorten, here, then))

    def all(self) -> None:
        """Have every holder begin nothing more: each of them then ends its Lease."""
        for lease, limit in self.attempts.dispatch.take_back_all():
            self._tell(lease, limit, lambda: None)

    def _tell(self, lease: Lease, limit: int, then: Callable[[], None]) -> None:
        """Tell the station of a Worker; one that is not connected will come back without its Lease."""
        connection = self.workers[lease.worker].connection
        if connection is not None and connection.elsewhere is not None:
            self._asked[lease.worker] = lease.token
            connection.elsewhere.settle(lease.token, limit, partial(self.handle, partial(self._told, lease, then)))

    def _told(self, lease: Lease, then: Callable[[], None]) -> None:
        self._asked.pop(lease.worker, None)
        then()

    def _shorten(self, leases: Iterable[Lease], then: Callable[[], None], told_limit: int | None = None) -> None:
        for lease in leases:
            self.attempts.shorten(lease, told_limit)
        then()
