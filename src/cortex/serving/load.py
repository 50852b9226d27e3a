"""How many requests an API has in flight, as a mean over time."""

from collections import deque
from itertools import islice

from cortex.configuration.autoscaling import TICK_SECONDS

BUCKET_NS = TICK_SECONDS * 1_000_000_000
LONGEST_WINDOW_SECONDS = 24 * 60 * 60
"""The load of more than this is not kept: a longer window is cut to it."""


class InFlight:
    """Counts the requests in flight, those that wait included; the time of each count is weighed exactly."""

    def __init__(self, now_ns: int) -> None:
        self.count = 0
        self._changed_at_ns = now_ns
        self._bucket_ends_at_ns = now_ns + BUCKET_NS
        self._area = 0  # of the bucket so far: requests times nanoseconds
        self._areas: deque[int] = deque(maxlen=LONGEST_WINDOW_SECONDS // TICK_SECONDS)  # of whole buckets, newest first

    def began(self, now_ns: int) -> None:
        """Count one more."""
        self._advance(now_ns)
        self.count += 1

    def ended(self, now_ns: int) -> None:
        """Count one less."""
        self._advance(now_ns)
        self.count -= 1

    def mean(self, now_ns: int, window_seconds: float) -> float | None:
        """Give the mean over the whole buckets of the window, of those that there are; None as long as there is none.

        Buckets follow each other from the beginning, each 10 seconds long; what is in flight since the last one has
        ended does not count yet.
        """
        self._advance(now_ns)
        areas = list(islice(self._areas, max(1, int(window_seconds // TICK_SECONDS))))
        return sum(areas) / (len(areas) * BUCKET_NS) if areas else None

    def _advance(self, now_ns: int) -> None:
        """Add what was in flight since the last change."""
        while now_ns >= self._bucket_ends_at_ns:
            self._areas.appendleft(self._area + self.count * (self._bucket_ends_at_ns - self._changed_at_ns))
            self._area = 0
            self._changed_at_ns = self._bucket_ends_at_ns
            self._bucket_ends_at_ns += BUCKET_NS
        self._area += self.count * (now_ns - self._changed_at_ns)
        self._changed_at_ns = now_ns
