"""How long somebody who should be heard has been silent."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

BEAT_SECONDS: Final = 1.0
"""How often processes show that they live, and others look whether they do."""

DEFAULT_HEARTBEAT_SECONDS: Final = 30.0
"""How long a process may be silent before it is killed."""

Who = TypeVar("Who", bound=Hashable)


@dataclass(slots=True)
class Silence(Generic[Who]):
    """Who has been silent at each of so many looks in a row.

    Looks are counted and no clock is asked: whoever was stopped itself, or slept with its machine, has not listened in
    the meantime, and must not take that for the silence of others.
    """

    _looks: dict[Who, int] = field(default_factory=dict)

    def look(self, silent: Iterable[Who], *, seconds: float) -> list[Who]:
        """Look, a beat after the last time, who is silent; give those who have been for at least so long.

        Whoever is not among the silent has been heard.
        """
        self._looks = {who: self._looks.get(who, 0) + 1 for who in silent}
        return [who for who, looks in self._looks.items() if (looks - 1) * BEAT_SECONDS >= seconds]
