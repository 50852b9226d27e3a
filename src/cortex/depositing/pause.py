"""Leaving a storage alone for a while when it has failed, which becomes longer each time."""

from dataclasses import dataclass
from typing import Final

_FIRST_SECONDS: Final = 30.0
_LONGEST_SECONDS: Final = 600.0


@dataclass(slots=True)
class Pause:
    """See the module. The times are those of a clock that only goes forward, in seconds."""

    _next_seconds: float = _FIRST_SECONDS
    _until: float = float("-inf")

    def begin(self, now: float) -> None:
        """Something has failed."""
        self._until = now + self._next_seconds
        self._next_seconds = min(2 * self._next_seconds, _LONGEST_SECONDS)

    def is_on(self, now: float) -> bool:
        """Tell whether nothing is to be tried yet."""
        return now < self._until

    def forget(self) -> None:
        """Something has succeeded: the next pause is as short as the first."""
        self._next_seconds = _FIRST_SECONDS
