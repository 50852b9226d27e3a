"""Which of its APIs a TrafficSplitter sends a request to."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """An API and its weight, which is at least 0."""

    name: str
    weight: int


def choose(shares: Sequence[Share], number: float) -> str:
    """Give the name of the API that a random number of [0, 1) falls to: each as often as its share of all weights.

    One of them must have a weight; one without is never chosen.
    """
    edges = list(accumulate(share.weight for share in shares))
    point = number * edges[-1]
    return next(share.name for share, edge in zip(shares, edges, strict=True) if point < edge)
