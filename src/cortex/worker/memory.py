"""How much memory Workers may use: the contract, and what keeps it on this machine."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from cortex.worker.cgroups import find_groups
from cortex.worker.watchdog import Watchdog

CHOICE: Final = "CORTEX_MEMORY_LIMITS"
"""Set to `watchdog`, this variable keeps control groups from being used where they could be."""

_CLEAR_UP_SECONDS: Final = 1.0
_LOOK_AGAIN_SECONDS: Final = 0.01


class MemoryLimits(Protocol):
    """Sees to it that no Worker uses more memory than it may, and tells who has tried to."""

    def admit(self, worker: str, limit_bytes: int) -> str | None:
        """Limit a Worker that is about to start; give the file that it joins its group by, if there is one.

        Raises OSError where that fails: a Worker whose limit is not kept must not run.
        """

    def over_limit(self, workers: Mapping[str, int]) -> list[str]:
        """Give those of these Workers (each with its process id) that have gone over their limit."""

    def has_run_out(self, worker: str) -> bool:
        """Tell, after its end, whether a Worker has gone over its limit."""

    def dismiss(self, worker: str) -> None:
        """Forget a Worker that has ended, and end whatever it has left behind. Of others, this does nothing."""

    def clear_up(self) -> bool:
        """Remove what is left of Workers that have ended; False if that must be tried again: somebody still dies."""


def memory_limits(environ: Mapping[str, str]) -> MemoryLimits:
    """Choose what keeps the limits: the kernel where it lets us, else a look at the Workers a few times a second."""
    groups = None
    if environ.get(CHOICE) != "watchdog":
        groups = find_groups(root=Path("/sys/fs/cgroup"), proc=Path("/proc"), pid=os.getpid())
    return groups or Watchdog(Path("/proc"))


def clear_up_for_good(limits: MemoryLimits) -> None:
    """Clear up for the last time: wait a moment for those that are still dying. Blocks for a second at the most."""
    deadline = time.monotonic() + _CLEAR_UP_SECONDS
    while not limits.clear_up() and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_SECONDS)
