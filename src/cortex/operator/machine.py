"""The size of what Workers can have."""

import math
from dataclasses import dataclass
from math import inf
from typing import Final

from cortex.configuration import Compute
from cortex.engines.engine import Needs

_MOST_WORKERS: Final = 256
"""Of Workers that reserve nothing there is room for many, but not for any number of processes."""


def needs_of(compute: Compute) -> Needs:
    """Give what a Worker with this `compute` needs."""
    millicores = math.ceil(round(compute.cpu_cores * 1000, 6))
    return Needs(millicores=millicores, mem_bytes=compute.mem_bytes or 0, gpus=compute.gpu)


def needs_of_process(compute: Compute, processes: int) -> Needs:
    """Give what each of the processes of a replica needs, which has this `compute` for all of them together.

    Rounded down, so that a replica as large as the machine has room on it; GPUs are those of the one process.
    """
    whole = needs_of(compute)
    return Needs(
        millicores=_share(whole.millicores, processes), mem_bytes=_share(whole.mem_bytes, processes), gpus=whole.gpus
    )


def _share(amount: int, processes: int) -> int:
    return max(amount // processes, min(amount, 1))  # 0 would mean that nothing was said about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The largest machine that an engine can place a Worker on."""

    cpu_cores: int
    mem_bytes: int
    gpus: int

    def places(self, compute: Compute) -> int:
        """Count the Workers that need this and fit here at the same time."""
        needs = needs_of(compute)
        by_cpu = self.millicores // needs.millicores if needs.millicores else inf
        by_mem = self.mem_bytes // needs.mem_bytes if needs.mem_bytes else inf
        by_gpu = self.gpus // needs.gpus if needs.gpus else inf
        return int(min(by_cpu, by_mem, by_gpu, self.most_workers))

    @property
    def millicores(self) -> int:
        """The cores, in thousandths: sums of fractions would not be exact."""
        return self.cpu_cores * 1000

    @property
    def most_workers(self) -> int:
        """Count the Workers that may run at once, however little they reserve."""
        return max(_MOST_WORKERS, self.cpu_cores)

    def misfit(self, compute: Compute) -> str | None:
        """Say why a Worker that needs this could never run here; None if it can."""
        if compute.cpu_cores > self.cpu_cores:
            return f"cpu: got `{compute.cpu}`, must be at most {self.cpu_cores}: the machine has that many cores"
        if compute.mem_bytes is not None and compute.mem_bytes > self.mem_bytes:
            return f"mem: got `{compute.mem}`, must be at most {self.mem_bytes // 2**20}Mi: the machine has that much"
        if compute.gpu > self.gpus:
            return f"gpu: got `{compute.gpu}`, must be at most {self.gpus}: the machine has that many"
        return None
