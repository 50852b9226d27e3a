"""How long ended Jobs are kept."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepJobs:
    """An ended Job is kept while it is neither older than `age` nor beyond the `count` of its API that ended last."""

    age: timedelta | None = None  # None: whatever their age
    count: int | None = None  # None: however many
