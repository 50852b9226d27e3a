"""How often and when to try again what may pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to give up on another machine. The defaults bear one that is overloaded or restarts for ten seconds."""

    attempts: int = 7
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 5.0
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0  # without a byte

    def pauses(self) -> Iterator[float]:
        """Give the seconds to wait before each further attempt: each pause is twice as long as the one before."""
        for attempt in range(self.attempts - 1):
            yield min(self.first_pause_seconds * 2**attempt, self.longest_pause_seconds)


SOMEBODY_WAITS: Final = Patience(attempts=4, connect_timeout_seconds=3.0, read_timeout_seconds=10.0)
"""Who submits wants to know within a minute that a storage does not answer."""
