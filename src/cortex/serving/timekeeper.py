"""Refuses the calls of an API that take too long, and parts with the processes that are stuck in them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cortex.domain.errors import RequestTimedOut
from cortex.domain.timing import Timer
from cortex.serving.line import Line
from cortex.serving.replicas import Replicas

_SHORTEST_LOOK_SECONDS: Final = 0.001


@dataclass(slots=True, kw_only=True)
class Timekeeper:
    """See the module. It sets its timer for the call that is the next to take too long, and for none where none is."""

    api_name: str
    line: Line
    replicas: Replicas
    now_ns: Callable[[], int]
    call_later: Timer
    _limit_ns: int | None = None  # how long a call may take, waiting included
    _cancel: Callable[[], None] | None = None

    def allow(self, seconds: float | None) -> None:
        """Say how long a call may take from now on, None for ever; what is in the line may be late by that."""
        self._limit_ns = None if seconds is None else int(seconds * 1e9)
        if self._cancel is not None:
            self._cancel()
        self._cancel = self.call_later(0, self.look)

    def call_entered(self) -> None:
        """A call is in the line: it is not to stay there for ever."""
        if self._limit_ns is not None and self._cancel is None:
            self.look()

    def look(self) -> None:
        """Look which calls, and which processes, have taken too long."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        if self._limit_ns is None:
            return
        until_ns = self.now_ns() - self._limit_ns  # of one moment: whose process is killed has been answered before
        self.line.expire(until_ns, self._error)
        for name, is_all in self.line.late(until_ns).items():
            self.replicas.condemn(name, is_idle_else=is_all)
        next_ns = self.line.first_after(until_ns)
        if next_ns is not None:
            seconds = max(_SHORTEST_LOOK_SECONDS, (next_ns + self._limit_ns - self.now_ns()) / 1e9)
            self._cancel = self.call_later(seconds, self.look)

    def _error(self) -> RequestTimedOut:
        seconds = (self._limit_ns or 0) / 1e9
        return RequestTimedOut(
            f"the request took longer than the {seconds:g} seconds that `{self.api_name}` allows",
            hint="`networking.timeout` is how long it may take, waiting included",
        )
