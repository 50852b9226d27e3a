"""How much work a Lease carries.

A Lease is a range of Batches that one Worker may run. It is sized by time, so that the cost of handing it out
vanishes beside the work in it, and cut short towards the end of a Job, so that all Workers end together.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

TARGET_SECONDS: Final = 0.1
"""How much work a Lease is for few Workers: between two, a Worker waits for most of a millisecond, a hundredth of that.

The next one could be in its hand before, if a Worker could hold two. That is not worth it: who holds too much would be
harder to say than it is to hand out fewer Leases, since a Lease of any length is cut short when others need it.
"""

MAX_TARGET_SECONDS: Final = 2.0
"""How much it is for however many: what is stopped, paused or lost is never far from its last Batch."""

SECONDS_PER_LEASE: Final = 100e-6
"""What a Lease costs the operator, of one core: measured by `benchmarks/scale.py`, see docs/scaling.md."""

OPERATOR_SHARE: Final = 1 / 3
"""How much of one core all Leases of a Job may cost the operator while everybody works."""

SETTLE_SECONDS: Final = 0.005
"""After its limit was lowered, long enough for a Worker to name on its page the Batch that it has begun."""

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


def target_seconds(workers: int) -> float:
    """Say how much work a Lease is to be: so much that the operator keeps up with this many Workers."""
    return min(max(TARGET_SECONDS, workers * SECONDS_PER_LEASE / OPERATOR_SHARE), MAX_TARGET_SECONDS)


def lease_size(*, pace: Pace | None, open_batches: int, workers: int) -> int:
    """Decide how many Batches the next Lease holds: one until a cost is known, then `target_seconds` of work.

    Never more than `MAX_GROWTH` times the last Lease (one cheap Batch says little). Never more than a Worker's half
    share of what is left (a fixed size leaves one Worker working while the others wait), but for what keeps the
    operator just busy: smaller Leases would leave all of them waiting for it.
    """
    if pace is None or pace.batches == 0:
        return 1
    batches_per_second = pace.batches / pace.seconds if pace.seconds > 0 else inf
    fair_share = open_batches // (2 * max(workers, 1))
    least = min(workers * SECONDS_PER_LEASE * batches_per_second, open_batches)
    affordable = target_seconds(workers) * batches_per_second
    return max(1, int(min(affordable, pace.batches * MAX_GROWTH, max(fair_share, least), MAX_BATCHES)))
