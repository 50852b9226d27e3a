"""Whether it is worth a try to start further Workers of a Job, and if not, why."""

from dataclasses import dataclass
from typing import Final

from cortex.domain.ending import Exit

MAX_FAILURES_IN_ROW: Final = 3
"""After this many Workers in a row that ended without having been in a Batch, no other is started."""


@dataclass(slots=True, kw_only=True)
class Prospects:
    """What the ends of Workers outside a Batch say about those that would come after them."""

    is_hopeless: bool = False  # no further Worker is worth a try
    error: str | None = None  # why Workers could not start, or go on
    is_out_of_memory: bool = False  # that is what the error is about
    _was_ever_ready: bool = False
    _failures_in_row: int = 0  # Workers that ended outside a Batch, since one was finished

    def worker_ready(self) -> None:
        """A Worker has a live predictor."""
        self._was_ever_ready = True

    def batches_ended(self) -> bool:
        """Workers do what they are for. True where that is news: others are worth a try again."""
        was_hopeless, self._failures_in_row = self.is_hopeless, 0
        self.is_hopeless = self.is_out_of_memory = False
        self.error = None
        return was_hopeless

    def environment_failed(self, reason: str) -> None:
        """No Worker can ever start."""
        self.is_hopeless = True
        self.error = f"no worker could start: {reason}"

    def init_raised(self, error: str) -> None:
        """The predictor could not be constructed: what raises in the first Workers raises in all."""
        self.error = f"no worker could start: {error}"
        self.is_hopeless |= not self._was_ever_ready

    def worker_died(self, ending: Exit, cause: str, when: str) -> None:
        """A Worker has ended outside a Batch, and is to blame for it."""
        self._failures_in_row += 1
        self.is_hopeless |= self._failures_in_row >= MAX_FAILURES_IN_ROW
        self.is_out_of_memory |= ending.is_out_of_memory and self.error is None
        self.error = self.error or f"no worker could go on: the last one {cause} {when}"
