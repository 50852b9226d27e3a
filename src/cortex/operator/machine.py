"""The size of what Workers can have."""

from dataclasses import dataclass
from math import inf
from typing import Final

from cortex.configuration import Compute

_MOST_WORKERS: Final = 256
"""Of Workers that reserve nothing there is room for many, but not for any number of processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The largest machine that an engine can place a Worker on."""

    cpu_cores: int
    mem_bytes: int
    gpus: int

    def places(self, compute: Compute) -> int:
        """Count the Workers that need this and fit here at the same time."""
        by_cpu = self.cpu_cores / compute.cpu_cores if compute.cpu_cores else inf
        by_mem = self.mem_bytes / compute.mem_bytes if compute.mem_bytes else inf
        by_gpu = self.gpus / compute.gpu if compute.gpu else inf
        return int(min(by_cpu, by_mem, by_gpu, _MOST_WORKERS))

    def misfit(self, compute: Compute) -> str | None:
        """Say why a Worker that needs this could never run here; None if it can."""
        if compute.cpu_cores > self.cpu_cores:
            return f"cpu: got `{compute.cpu}`, must be at most {self.cpu_cores}: the machine has that many cores"
        if compute.mem_bytes is not None and compute.mem_bytes > self.mem_bytes:
            return f"mem: got `{compute.mem}`, must be at most {self.mem_bytes // 2**20}Mi: the machine has that much"
        if compute.gpu > self.gpus:
            return f"gpu: got `{compute.gpu}`, must be at most {self.gpus}: the machine has that many"
        return None
