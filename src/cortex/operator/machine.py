"""The size of what Workers can have: of this machine, or of whatever other machines there are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from cortex.configuration import Compute
from cortex.domain.quantity import write_bytes
from cortex.engines.engine import Needs

_MOST_WORKERS: Final = 256
"""Of Workers that reserve nothing there is room for many, but not for any number of processes."""

_MOST_WORKERS_ELSEWHERE: Final = 10_000

_MOST_CORES: Final = 4096
_MOST_MEM_BYTES: Final = 2**47
_MOST_GPUS: Final = 1024


def needs_of(compute: Compute, node_groups: Sequence[str] = ()) -> Needs:
    """Give what a Worker with this `compute` needs, of a node of one of these groups."""
    millicores = math.ceil(round(compute.cpu_cores * 1000, 6))
    return Needs(
        millicores=millicores,
        mem_bytes=compute.mem_bytes or 0,
        gpus=compute.gpu,
        node_groups=tuple(node_groups),
    )


def needs_of_process(compute: Compute, processes: int, node_groups: Sequence[str] = ()) -> Needs:
    """Give what each of the processes of a replica needs, which has this `compute` for all of them together.

    Rounded down, so that a replica as large as the machine has room on it; GPUs are those of the one process.
    """
    whole = needs_of(compute, node_groups)
    return replace(whole, millicores=_share(whole.millicores, processes), mem_bytes=_share(whole.mem_bytes, processes))


def _misfit_anywhere(compute: Compute) -> str | None:
    """Say why a Worker that needs this could run on no machine: beyond these, a count overflows and anything fits."""
    if compute.cpu_cores > _MOST_CORES:
        return f"cpu: got `{compute.cpu}`, must be at most {_MOST_CORES}: no machine has more cores"
    if compute.mem_bytes is not None and compute.mem_bytes > _MOST_MEM_BYTES:
        return f"mem: got `{compute.mem}`, must be at most {write_bytes(_MOST_MEM_BYTES)}: no machine has more"
    if compute.gpu > _MOST_GPUS:
        return f"gpu: got `{compute.gpu}`, must be at most {_MOST_GPUS}: no machine has more"
    return None


def _share(amount: int, processes: int) -> int:
    return max(amount // processes, min(amount, 1))  # 0 would mean that nothing was said about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """This machine, on which Workers run, or what has them run on others: these may be larger, and come and go."""

    cpu_cores: int
    mem_bytes: int
    gpus: int
    is_all: bool = True  # False where Workers run on other machines

    def places(self, compute: Compute) -> int:
        """Count the Workers that need this and fit here at the same time; elsewhere it is not known how many do."""
        if not self.is_all:
            return _MOST_WORKERS_ELSEWHERE
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

    def has_groups(self) -> bool:
        """Tell whether Workers may be placed in groups of nodes: there are some only where there are other machines."""
        return not self.is_all

    def misfit(self, compute: Compute) -> str | None:
        """Say why a Worker that needs this could never run here; None if it can."""
        if not self.is_all:
            return _misfit_anywhere(compute)
        if compute.cpu_cores > self.cpu_cores:
            return f"cpu: got `{compute.cpu}`, must be at most {self.cpu_cores}: the machine has that many cores"
        if compute.mem_bytes is not None and compute.mem_bytes > self.mem_bytes:
            return f"mem: got `{compute.mem}`, must be at most {self.mem_bytes // 2**20}Mi: the machine has that much"
        if compute.gpu > self.gpus:
            return f"gpu: got `{compute.gpu}`, must be at most {self.gpus}: the machine has that many"
        return None
