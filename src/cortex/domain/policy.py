"""What a Job asks for when something fails: how often to try, how long to wait, when to stop."""

from dataclasses import dataclass, field
from enum import StrEnum


class OnFailedBatch(StrEnum):
    """What becomes of a Batch whose attempts are used up."""

    FAIL = "fail"  # all of it has failed
    ISOLATE = "isolate"  # it is split in halves, down to the Items that fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often predict is tried with a Batch, the first time included, and how long it waits in between."""

    attempts: int = 1
    backoff_seconds: float = 1.0  # before the second attempt; doubled before each further one
    max_backoff_seconds: float = 60.0
    no_retry: tuple[str, ...] = ()  # exceptions that another attempt would not help, by name, with all below them

    def delay_seconds(self, failed_attempts: int) -> float:
        """Say how long a Batch waits after this many attempts have failed."""
        doublings = min(failed_attempts - 1, 64)
        return min(self.backoff_seconds * 2.0**doublings, self.max_backoff_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxFailures:
    """How many Batches may fail before the Job is stopped: a number, or a share of all of them."""

    count: int | None = None
    percent: float | None = None

    def is_exceeded(self, failed: int, total: int) -> bool:
        """Tell whether more have failed than may."""
        if self.count is not None:
            return failed > self.count
        return self.percent is not None and failed * 100 > self.percent * total

    def __str__(self) -> str:
        """As its user writes it."""
        return f"{self.percent:g}%" if self.count is None else str(self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All of them; the default is what a Job gets that asks for nothing."""

    retries: Retries = field(default_factory=Retries)
    batch_timeout_seconds: float | None = None  # of one call of predict
    timeout_seconds: float | None = None  # of the Job, from its submission
    max_failures: MaxFailures | None = None
    on_failed_batch: OnFailedBatch = OnFailedBatch.FAIL

    @property
    def isolates(self) -> bool:
        """True where failing Batches are split."""
        return self.on_failed_batch is OnFailedBatch.ISOLATE
