"""How much work a Lease carries.

A Lease is a range of Batches that one Worker may run. It is sized by time, so that the cost of handing it out
vanishes beside the work in it, and cut short towards the end of a Job, so that all Workers end together.
"""

from dataclasses import dataclass
from typing import Final

TARGET_SECONDS: Final = 0.04
MAX_GROWTH: Final = 8
MAX_BATCHES: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of one Worker to run the Batches `first` to `end` (exclusive) of one Segment."""

    token: int
    worker: str
    segment: int
    first: int
    end: int

    @property
    def count(self) -> int:
        """How many Batches the Lease covers."""
        return self.end - self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What a Worker's last Lease told about the cost of a Batch."""

    batches: int
    seconds: float


def token(epoch: int, counter: int) -> int:
    """Make the token of a Lease: higher than every token of an earlier epoch and every earlier one of this."""
    return epoch << 40 | counter


def lease_size(*, pace: Pace | None, open_batches: int, workers: int) -> int:
    """Decide how many Batches the next Lease holds: one until a cost is known, then about `TARGET_SECONDS` of work.

    Never more than `MAX_GROWTH` times the last Lease (one cheap Batch says little), and never more than a Worker's
    half share of what is left (a fixed size leaves one Worker working while the others wait).
    """
    if pace is None or pace.batches == 0:
        return 1
    affordable = TARGET_SECONDS * pace.batches / pace.seconds if pace.seconds > 0 else MAX_BATCHES
    fair_share = open_batches // (2 * max(workers, 1))
    return max(1, int(min(affordable, pace.batches * MAX_GROWTH, fair_share, MAX_BATCHES)))
