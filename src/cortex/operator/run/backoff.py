"""Batches that wait before they are tried again."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from cortex.domain.timing import Timer


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Tells of each Batch when its time has come, with one timer for all of them."""

    now_ns: Callable[[], int]
    call_later: Timer
    due: Callable[[list[int]], None]
    _waiting: list[tuple[int, int]] = field(default_factory=list)  # a heap of (when, Batch)
    _cancel: Callable[[], None] = lambda: None

    def wait(self, batch: int, seconds: float) -> None:
        """Let a Batch wait."""
        heapq.heappush(self._waiting, (self.now_ns() + int(seconds * 1e9), batch))
        if self._waiting[0][1] == batch:
            self._set_timer()

    @property
    def next_at_ns(self) -> int | None:
        """When the first of them has waited long enough; None where none waits."""
        return self._waiting[0][0] if self._waiting else None

    def _set_timer(self) -> None:
        self._cancel()
        self._cancel = self.call_later(max(0.0, (self._waiting[0][0] - self.now_ns()) / 1e9), self._ring)

    def _ring(self) -> None:
        now_ns = self.now_ns()
        batches = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            batches.append(heapq.heappop(self._waiting)[1])
        if self._waiting:
            self._set_timer()
        if batches:
            self.due(batches)
