"""Updates on a machine that is full: new replicas would wait for ever while old ones have the places."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cortex.domain.timing import Timer
from cortex.serving.rollout import UpdateStrategy

_PATIENCE_SECONDS: Final = 5.0
"""How long a new replica waits for a place before an old one has to give it its own."""


@dataclass(slots=True, kw_only=True)
class Crowding:
    """See the module."""

    now_ns: Callable[[], int]
    call_later: Timer
    is_over: Callable[[], None]  # called when the strategy may be another one
    _since_ns: int | None = None

    def strategy(self, wanted: UpdateStrategy, requested: int, *, is_crowded: bool) -> UpdateStrategy:
        """Give the strategy that is possible: the one that is wanted, or old replicas go before new ones are ready."""
        if not is_crowded:
            self._since_ns = None
            return wanted
        now_ns = self.now_ns()
        if self._since_ns is None:
            self._since_ns = now_ns
            self.call_later(_PATIENCE_SECONDS, self.is_over)
        if now_ns - self._since_ns < _PATIENCE_SECONDS * 1e9:
            return wanted
        return UpdateStrategy(max_surge=0, max_unavailable=max(1, wanted.unavailable(requested)))
