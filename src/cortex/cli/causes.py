"""Failed batches by cause: what differs between those that failed alike is left out. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from cortex.answers import Failure
from cortex.cli.tables import table

_VARIES: Final = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b0x[0-9a-fA-F]+\b|\d+(?:[.,:]\d+)*"
)
_LOOKED_AT: Final = 1000
_SHOWN: Final = 100


@dataclass(slots=True)
class Cause:
    """Failures that are alike, and one of them."""

    type: str
    message: str
    example: str
    count: int = 0


@dataclass(slots=True, kw_only=True)
class Causes:
    """Counts failures by type and message. It keeps no more than `most` causes; the rest is counted as one."""

    most: int = 1000
    _causes: dict[tuple[str, str], Cause] = field(default_factory=dict)
    _rest: Cause | None = None

    def add(self, failure: Failure) -> None:
        """Count a failure."""
        key = failure["type"], fold(failure["message"])
        cause = self._causes.get(key)
        if cause is None and len(self._causes) < self.most:
            cause = self._causes[key] = Cause(*key, example=failure["batch_id"])
        if cause is None:
            cause = self._rest = self._rest or Cause("...", "(further causes)", failure["batch_id"])
        cause.count += 1

    def by_count(self) -> list[Cause]:
        """Give the causes, the most frequent first; of equals the one that came first; the rest last."""
        causes = sorted(self._causes.values(), key=lambda cause: -cause.count)
        return [*causes, self._rest] if self._rest else causes


def fold(message: str) -> str:
    """Give the first line of a message, at a length that can be read, with `*` for its numbers and ids."""
    lines = message.strip()[:_LOOKED_AT].splitlines()
    text = _VARIES.sub("*", lines[0].strip() if lines else "")
    text = "".join(letter if letter.isprintable() else " " for letter in text)  # it may say anything to a terminal
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def causes_view(causes: Iterable[Cause]) -> str:
    """Show causes as a table."""
    rows = [[cause.count, cause.type, cause.message, cause.example] for cause in causes]
    return table(["count", "type", "message", "example batch"], rows)
