"""How well uneven batches can be shared out: the bound that dispatch is held to."""

import heapq
from collections.abc import Iterable


def greedy_seconds(batches: Iterable[float], workers: int) -> float:
    """Give the time in which all are done if each batch, in order, goes to whoever is free first."""
    free_at = [0.0] * workers
    for seconds in batches:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)
