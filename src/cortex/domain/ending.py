"""How a Worker process ended, in words that its user can act on."""

import signal
from dataclasses import dataclass

from cortex.domain.quantity import write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """The end of a Worker process. `status` is an exit code, negative for a signal, None when nobody saw it."""

    status: int | None
    is_out_of_memory: bool = False
    mem_limit_bytes: int | None = None
    is_out_of_time: bool = False  # it was ended because predict took too long
    is_charged: bool = True  # False where nothing that the Worker did can be the cause
    detail: str | None = None

    @property
    def cause(self) -> str:
        """What happened, to follow the words "the worker"."""
        if self.detail is not None:
            return self.detail
        if self.is_out_of_memory:
            if self.mem_limit_bytes is None:
                return "ran out of memory and was killed"
            return f"ran out of memory: it is limited to {write_bytes(self.mem_limit_bytes)} (compute.mem)"
        if self.status is None:
            return "was lost"
        if self.status >= 0:
            return f"exited with code {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {-self.status} ({name})"
