"""How many requests an API has answered, and how."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True, kw_only=True)
class RequestCounts:
    """Requests by the class of their answer, and how long those took that a replica has answered."""

    total: int = 0  # of all classes: 3xx are only here
    code_2xx: int = 0
    code_4xx: int = 0
    code_5xx: int = 0
    timed: int = 0  # those of which it is known how long they took
    seconds: float = 0.0  # how long they took together

    def add(self, status: int, seconds: float | None) -> None:
        """Count an answer; `seconds` is None for one that no replica has given."""
        self.total += 1
        match status // 100:
            case 2:
                self.code_2xx += 1
            case 4:
                self.code_4xx += 1
            case 5:
                self.code_5xx += 1
        if seconds is not None:
            self.timed += 1
            self.seconds += seconds

    @property
    def latency_ms(self) -> float | None:
        """How long an answer took on average; None where none was timed."""
        return self.seconds * 1000 / self.timed if self.timed else None

    def to_dict(self) -> dict[str, Any]:
        """Give what `from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "RequestCounts":
        """Read what `to_dict` gave."""
        return cls(**kept)
