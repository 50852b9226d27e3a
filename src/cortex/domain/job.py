"""A Job and the statuses it goes through."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from cortex.domain.output import Output
from cortex.domain.policy import Policy
from cortex.domain.source import FileSource


class JobStatus(StrEnum):
    """Where a Job stands. The value is what the HTTP API shows, `text` what people read."""

    ENQUEUING = "status_enqueuing"
    RUNNING = "status_running"
    PAUSED = "status_paused"
    STOPPING = "status_stopping"
    SUCCEEDED = "status_succeeded"
    COMPLETED_WITH_FAILURES = "status_completed_with_failures"
    ENQUEUE_FAILED = "status_enqueue_failed"
    WORKER_ERROR = "status_worker_error"
    WORKER_OOM = "status_worker_oom"
    UNEXPECTED_ERROR = "status_unexpected_error"
    TIMED_OUT = "status_timed_out"
    STOPPED = "status_stopped"

    @property
    def is_final(self) -> bool:
        """True of a status that never changes again."""
        return not MOVES[self]

    @property
    def text(self) -> str:
        """The status in a user's words."""
        return _TEXTS.get(self) or self.value.removeprefix("status_").replace("_", " ")


_TEXTS: Final = {
    JobStatus.ENQUEUE_FAILED: "failed while enqueuing",
    JobStatus.WORKER_OOM: "out of memory",
}

_ENDINGS_OF_A_RUN: Final = frozenset(
    {
        JobStatus.SUCCEEDED,
        JobStatus.COMPLETED_WITH_FAILURES,
        JobStatus.WORKER_ERROR,
        JobStatus.WORKER_OOM,
        JobStatus.UNEXPECTED_ERROR,
    }
)

MOVES: Final[Mapping[JobStatus, frozenset[JobStatus]]] = {
    JobStatus.ENQUEUING: frozenset(
        {JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.ENQUEUE_FAILED, JobStatus.UNEXPECTED_ERROR}
    ),
    JobStatus.RUNNING: _ENDINGS_OF_A_RUN | {JobStatus.PAUSED, JobStatus.STOPPING},
    JobStatus.PAUSED: frozenset({JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.UNEXPECTED_ERROR}),
    JobStatus.STOPPING: frozenset({JobStatus.STOPPED, JobStatus.TIMED_OUT, JobStatus.UNEXPECTED_ERROR}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.COMPLETED_WITH_FAILURES: frozenset(),
    JobStatus.ENQUEUE_FAILED: frozenset(),
    JobStatus.WORKER_ERROR: frozenset(),
    JobStatus.WORKER_OOM: frozenset(),
    JobStatus.UNEXPECTED_ERROR: frozenset(),
    JobStatus.TIMED_OUT: frozenset(),
    JobStatus.STOPPED: frozenset(),
}
"""The only moves there are. Diagrams, checks and tests derive from this table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How the Batches of a Job stand at one instant. The first four always add up to the total."""

    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    in_queue: int = 0
    succeeded_items: int = 0
    failed_items: int = 0

    @property
    def total(self) -> int:
        """All Batches."""
        return self.succeeded + self.failed + self.in_flight + self.in_queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One submitted dataset on its way through a deployed API. Instants are nanoseconds since 1970 (UTC)."""

    id: str
    api_name: str
    api_id: str
    workers: int  # at once; of an elastic Job, as far as there is room
    workers_min: int | None = None  # of an elastic Job: it gives back what it has above them where others wait
    config: Mapping[str, Any] | None
    source: FileSource | None = None  # None where the request held the items
    policy: Policy = field(default_factory=Policy)
    output: Output | None = None  # where its results are written besides
    rerun_of: str | None = None  # the Job that it goes on with
    origin: str | None = None  # the first Job of such a chain
    batch_size: int
    item_count: int
    total_batch_count: int
    status: JobStatus
    status_reason: str | None = None
    created_at_ns: int
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    ending: JobStatus | None = None  # what a Job that is STOPPING will be
    hook_worker: str | None = None  # the Worker that was told to run on_job_complete
    final_counts: Counts | None = None  # set with the final status
    busy_seconds: float = 0.0  # time in predict, set with the final status

    @property
    def is_final(self) -> bool:
        """True once the Job has ended."""
        return self.status.is_final

    @property
    def names_batches(self) -> str:
        """The Job whose id the ids of the Batches are made from: they stay the same when a Batch is run again."""
        return self.origin or self.id

    def items_of(self, batch: int) -> int:
        """Say how many Items a Batch has: the last one may have fewer than the others."""
        return min(self.batch_size, self.item_count - batch * self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRange:
    """Which consecutive Batches of a Job one Segment holds."""

    number: int
    first: int
    count: int

    @property
    def end(self) -> int:
        """The number after the last Batch."""
        return self.first + self.count
