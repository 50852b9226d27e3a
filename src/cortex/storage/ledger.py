"""The contract of the ledger: what is remembered of APIs, Jobs and Workers.

The state of a Batch is not here but in its state byte (storage/segments.py); the ledger has rows for Jobs, and for
what is unusual.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import MOVES, Counts, Job, JobStatus, SegmentRange
from cortex.domain.submission_key import SubmissionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One deployed content of an API: its configuration and its project. `api_id` names exactly this content."""

    api_id: str
    api_name: str
    kind: str
    endpoint: str
    spec: Mapping[str, Any]
    project_id: str
    deployed_at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A Worker process that was started: who it is on this machine, so that a later operator can find it."""

    worker: str
    job_id: str
    supervisor: str
    pid: int
    process_started_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsyncedFile:
    """A file of a Job whose bytes are in the ledger, and perhaps nowhere else after a power cut."""

    number: int  # higher for every file that is written down later
    job_id: str
    name: str  # relative to the Job's folder


NO_FILES: Final[Mapping[str, bytes]] = MappingProxyType({})


class Ledger(Protocol):
    """Where the operator writes down what it must not forget.

    One writer: every method is called from the operator's thread. When a method returns, what it wrote survives
    the death of any process; what `durable` says in its promise also survives a power cut. On a full disk, every
    method that writes raises StorageFull, and changes nothing.

    What is small of a Job's files is written down with the Job itself, so that one sync is enough for both: the files
    are written before, and need not be synced. They are the ledger's `unsynced` ones until they are on the disk.
    """

    def boot_id(self) -> str | None:
        """Give in which run of the machine the last epoch began; None before the first one."""

    def begin_epoch(self, boot_id: str) -> tuple[int, bool]:
        """Start the life of an operator. Durable.

        Gives its epoch, higher than every earlier one, and whether the machine has been started anew since the
        last one began (then what was written but not synced may be lost).
        """

    def deploy(self, versions: Sequence[Version]) -> None:
        """Make these the versions of their APIs, all of them or none. Durable.

        Earlier versions stay as long as there are Jobs of them, and are forgotten otherwise. No two APIs ever have
        the same endpoint: raises ValueError, and changes nothing, where they would.
        """

    def versions(self) -> Sequence[Version]:
        """Give the deployed version of every API, by name."""

    def version(self, api_id: str) -> Version | None:
        """Give a version, also one that is no longer deployed."""

    def project_ids(self) -> set[str]:
        """Give the projects of all versions, deployed or not."""

    def needed_versions(self, *, without_jobs: Sequence[str] = ()) -> Sequence[Version]:
        """Give the versions, by id, that are deployed or have Jobs; these Jobs do not count."""

    def delete_api(self, api_name: str) -> None:
        """Forget an API, its versions and its Jobs. Durable."""

    def add_job(
        self,
        job: Job,
        segments: Sequence[SegmentRange],
        key: SubmissionKey | None = None,
        deaths: Sequence[Death] = (),
        files: Mapping[str, bytes] = NO_FILES,
    ) -> None:
        """Write down a new Job, the Segments of its dataset and its key, together. Durable: it may be acknowledged now.

        One that has all its Batches may be RUNNING from then on, so that no other commit has to say so. `files` are
        those of its folder that are not synced, by their names relative to it. A rerun whose Batches stay
        as they have ended takes over the accounts of the earlier Job: `deaths`. Raises ValueError, and changes nothing,
        when its API has a Job with a key of this name.
        """

    def keyed_job(self, api_name: str, key_name: str) -> tuple[Job, SubmissionKey] | None:
        """Give the Job of an API that was submitted with a key of this name, and the key.

        Both are forgotten together.
        """

    def publish(self, job_id: str, segment: SegmentRange, *, item_count: int, cursor: Mapping[str, Any]) -> Job:
        """Write down the next Segment of a Job that is being enqueued, and give the Job with what it has now.

        `cursor` says where in its source the one after it begins. Raises ValueError, and changes nothing, unless the
        Job is ENQUEUING and the Segment follows the last one: so none is ever published twice.
        """

    def cursor(self, job_id: str) -> Mapping[str, Any] | None:
        """Give the cursor of the last Segment that was published; None if there is none."""

    def job(self, job_id: str) -> Job | None:
        """Give a Job."""

    def jobs(self, api_name: str) -> Sequence[Job]:
        """Give the Jobs of an API, newest first."""

    def newest_job(self, api_name: str) -> Job | None:
        """Give the newest Job of an API. Quick, however many there are."""

    def count_in_progress(self, api_name: str) -> int:
        """Count the Jobs of an API whose status is not final. Quick, however many have ended."""

    def ended_jobs_beyond(self, api_name: str, count: int, *, limit: int) -> Sequence[str]:
        """Give ended Jobs of an API, without those `count` that ended last: ids, at most `limit`, last ended first."""

    def jobs_ended_before(self, at_ns: int, *, limit: int) -> Sequence[str]:
        """Give the Jobs of all APIs that ended before this instant: ids, at most `limit`, first ended first."""

    def delete_jobs(self, job_ids: Sequence[str]) -> None:
        """Forget these Jobs, but those in progress, and the versions that nothing needs any more. Durable."""

    def jobs_in_progress(self) -> Sequence[Job]:
        """Give every Job whose status is not final, oldest first."""

    def newest_job_id(self) -> str | None:
        """Give the id that sorts first of all that there ever were, also of Jobs that are forgotten."""

    def segments(self, job_id: str) -> Sequence[SegmentRange]:
        """Give the Segments of a Job, in order."""

    def move(
        self,
        job_id: str,
        status: JobStatus,
        *,
        at_ns: int,
        reason: str | None = None,
        ending: JobStatus | None = None,
        counts: Counts | None = None,
        busy_seconds: float = 0.0,
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Job:
        """Move a Job to a status and give it as it is now. Durable.

        Moving to RUNNING for the first time sets `started_at_ns`, to a final status `ended_at_ns`. STOPPING is
        written with the status that it leads to, a final status with its counts. `files` are as in `add_job`; those
        that have been written down before stay. Raises ValueError, and changes nothing, when domain.job.MOVES has no
        such move.
        """

    def unsynced(self) -> Sequence[UnsyncedFile]:
        """Give the files that may not be on the disk, in the order in which they were written down.

        The same name may come again, with what the file has held later.
        """

    def unsynced_bytes(self, file: UnsyncedFile) -> bytes:
        """Give what one of these has held when it was written down."""

    def forget_unsynced(self, up_to: int) -> None:
        """Forget the files with these numbers, which are on the disk.

        A power cut may bring them back: then they are written once more. A Job that is forgotten takes its own along.
        """

    def start_hook(self, job_id: str, worker: str) -> None:
        """Write down that this Worker is about to be told to run on_job_complete. Durable.

        Raises ValueError, and changes nothing, when one was told before: the hook is started at most once.
        """

    def add_worker(self, record: WorkerRecord) -> None:
        """Write down a Worker, before its first Lease. May be repeated."""

    def end_worker(self, worker: str) -> None:
        """Write down that a Worker is gone. May be repeated."""

    def workers(self, job_id: str) -> Sequence[WorkerRecord]:
        """Give the Workers of a Job that are not known to be gone."""

    def charge_death(
        self, job_id: str, batch: int, part: Part, *, kind: DeathKind, cause: str, worker: str | None = None
    ) -> Death:
        """Charge a Part of a Batch with the death of the Worker that ran it; give its account.

        That this Worker is gone is written down with it, so that no death is ever charged twice, or to nobody.
        """

    def deaths(self, job_id: str) -> Sequence[Death]:
        """Give the accounts of a Job, by Batch and Part."""

    def close(self) -> None:
        """Let go of the store."""


def check_move(
    job: Job | None, job_id: str, status: JobStatus, ending: JobStatus | None, counts: Counts | None
) -> None:
    """Raise ValueError unless this Job may move to this status."""
    if job is None:
        raise ValueError(f"there is no job {job_id}")
    if status not in MOVES[job.status]:
        raise ValueError(f"job {job_id} cannot move from {job.status} to {status}")
    if status.is_final != (counts is not None):
        raise ValueError("counts are written with a final status, and only with one")
    if (status is JobStatus.STOPPING) != (ending is not None and ending in MOVES[JobStatus.STOPPING]):
        raise ValueError("where it leads to is written with STOPPING, and only there")


def check_key(present: tuple[Job, SubmissionKey] | None) -> None:
    """Raise ValueError where a Job has this key already."""
    if present is not None:
        raise ValueError(f"job {present[0].id} has this key")


def check_publication(job: Job | None, job_id: str, last: SegmentRange | None, next_one: SegmentRange) -> None:
    """Raise ValueError unless this Segment is the next one of this Job."""
    if job is None:
        raise ValueError(f"there is no job {job_id}")
    if job.status is not JobStatus.ENQUEUING:
        raise ValueError(f"job {job_id} is {job.status}, and gets no segments any more")
    number, first = (last.number + 1, last.end) if last else (0, 0)
    if (next_one.number, next_one.first) != (number, first):
        raise ValueError(f"{next_one} is not the next segment of job {job_id}")
