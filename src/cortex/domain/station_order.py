"""All that a station is started with; everything else it asks of the operator."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StationOrder:
    """What a station reads on its standard input."""

    ticket: str  # the text of a Ticket
    signature: str = field(repr=False)
    host: str  # where the operator listens for stations
    port: int
    heartbeat_seconds: float
    storage: Mapping[str, Any] | None  # where nodes and operator leave data for each other; None: on the channel alone

    def to_json(self) -> str:
        """Give this for `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "StationOrder":
        """Raises ValueError for what is no order."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"it is no order: {error}") from error
