"""The size of what Workers can have."""

from dataclasses import dataclass

from cortex.configuration import Compute


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The largest machine that an engine can place a Worker on."""

    cpu_cores: int
    mem_bytes: int
    gpus: int

    def misfit(self, compute: Compute) -> str | None:
        """Say why a Worker that needs this could never run here; None if it can."""
        if compute.cpu_cores > self.cpu_cores:
            return f"cpu: got `{compute.cpu}`, must be at most {self.cpu_cores}: the machine has that many cores"
        if compute.mem_bytes is not None and compute.mem_bytes > self.mem_bytes:
            return f"mem: got `{compute.mem}`, must be at most {self.mem_bytes // 2**20}Mi: the machine has that much"
        if compute.gpu > self.gpus:
            return f"gpu: got `{compute.gpu}`, must be at most {self.gpus}: the machine has that many"
        return None
