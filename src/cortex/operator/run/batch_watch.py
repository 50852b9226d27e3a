"""Ends what takes longer than the Job allows for one call of predict."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cortex.domain.batch import BatchState
from cortex.domain.layout import JobFolder
from cortex.domain.timing import Timer
from cortex.operator.run.dispatch import Dispatch
from cortex.storage.pages import PageContent, read_page

_SHORTEST_LOOK_SECONDS: Final = 0.02
_LONGEST_LOOK_SECONDS: Final = 1.0


@dataclass(slots=True, kw_only=True)
class BatchWatch:
    """Looks at the pages of the Workers that hold Leases, some times within each timeout."""

    timeout_seconds: float
    folder: JobFolder
    dispatch: Dispatch
    now_ns: Callable[[], int]
    call_later: Timer
    took_too_long: Callable[[str, PageContent], None]

    def start(self) -> None:
        """Look from now on, for as long as `call_later` calls."""
        seconds = min(max(self.timeout_seconds / 8, _SHORTEST_LOOK_SECONDS), _LONGEST_LOOK_SECONDS)
        self.call_later(seconds, self._look)

    def _look(self) -> None:
        started_before_ns = self.now_ns() - int(self.timeout_seconds * 1e9)
        for lease in list(self.dispatch.leases()):
            page = read_page(self.folder, lease.worker)
            if page.current is None or page.started_at_ns >= started_before_ns or page.no_room_since_ns is not None:
                continue
            if page.is_cut_off:  # it may have ended long ago
                continue
            if lease.first <= page.current < lease.end and self.dispatch.state(page.current) is BatchState.OPEN:
                self.took_too_long(lease.worker, page)
        self.start()
