"""Which ended jobs are removed, and what is left of them."""

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.retention import KeepJobs
from cortex.operator.upkeep.retention import SLICE, Retention
from cortex.storage.ledger import Ledger, Version
from cortex.storage.memory import MemoryLedger
from samples import JOB

NOW_NS = 10**15
SECOND_NS = 10**9


@dataclass(frozen=True)
class Past:
    """A job as a test makes it up: of which API, and how many seconds ago it ended; None while it is in progress."""

    api: str
    ended_ago: int | None


@dataclass
class Story:
    """A retention whose callbacks wait until they are told to go on."""

    root: Path
    keep: KeepJobs
    ledger: Ledger = field(default_factory=MemoryLedger)
    later: list[Callable[[], None]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.retention = Retention(
            ledger=self.ledger,
            keep=self.keep,
            root=self.root,
            now_ns=lambda: NOW_NS,
            call_later=lambda seconds, call: self.later.append(call) if seconds < 3600 else None,
            background=lambda work, then: self.later.append(lambda: (work(), then())[0]),
            forgotten=lambda: None,
            is_held=self.held.__contains__,
        )

    def add(self, past: Iterable[Past]) -> list[Job]:
        """Add jobs with their folders, each newer than the one before."""
        jobs = [self.add_one(number, one) for number, one in enumerate(past)]
        for job in jobs:
            Path(self.root, job.id, "segments").mkdir(parents=True)
        return jobs

    def add_one(self, number: int, past: Past) -> Job:
        self.ledger.deploy([version(past.api)])
        job = replace(JOB, id=f"{2**32 - number:016x}", api_name=past.api, api_id=past.api, created_at_ns=number)
        self.ledger.add_job(job, [])
        if past.ended_ago is not None:
            at_ns = NOW_NS - past.ended_ago * SECOND_NS
            job = self.ledger.move(job.id, JobStatus.ENQUEUE_FAILED, at_ns=at_ns, counts=Counts(in_queue=1))
        return job

    def go_on(self) -> None:
        """Do what waits, and what comes of it."""
        while self.later:
            self.later.pop(0)()

    @property
    def left(self) -> set[str]:
        """The jobs that are there: in the ledger and on the disk alike."""
        folders = {path.name for path in self.root.iterdir()}
        assert folders == {job.id for name in ("a", "b") for job in self.ledger.jobs(name)}
        return folders


def version(api: str, content: str = "") -> Version:
    return Version(
        api_id=f"{api}{content}",
        api_name=api,
        kind="BatchAPI",
        endpoint=f"/{api}",
        spec={},
        project_id=f"{api}{content}",
        deployed_at_ns=1,
    )


pasts = st.lists(st.builds(Past, api=st.sampled_from("ab"), ended_ago=st.none() | st.integers(0, 9)), max_size=20)
keeps = st.builds(
    KeepJobs,
    age=st.none() | st.integers(1, 9).map(lambda seconds: timedelta(seconds=seconds)),
    count=st.none() | st.integers(1, 5),
)


@given(past=pasts, keep=keeps)
def test_what_is_kept_is_in_progress_or_young_and_among_those_that_ended_last(past: list[Past], keep: KeepJobs) -> None:
    with tempfile.TemporaryDirectory() as root:
        story = Story(Path(root), keep)
        jobs = story.add(past)

        story.retention.recover()
        story.go_on()

        assert story.left == {job.id for job in jobs if not is_to_go(job, jobs, keep)}


def is_to_go(job: Job, jobs: list[Job], keep: KeepJobs) -> bool:
    """Say the same in other words: who ended later, or at the same time and is newer, counts before it."""
    if job.ended_at_ns is None:
        return False
    before = [
        other
        for other in jobs
        if other.api_name == job.api_name
        and other.ended_at_ns is not None
        and (-other.ended_at_ns, other.id) < (-job.ended_at_ns, job.id)
    ]
    is_old = keep.age is not None and NOW_NS - job.ended_at_ns > keep.age.total_seconds() * SECOND_NS
    return is_old or (keep.count is not None and len(before) >= keep.count)


def test_a_job_that_ends_makes_room_in_its_own_api_only(tmp_path: Path) -> None:
    story = Story(tmp_path, KeepJobs(count=1))
    jobs = story.add([Past("a", 3), Past("b", 3), Past("a", 2), Past("b", 2)])

    story.retention.job_ended(jobs[2])
    story.go_on()

    assert story.left == {jobs[1].id, jobs[2].id, jobs[3].id}


def test_many_jobs_are_removed_in_slices_between_which_others_get_their_turn(tmp_path: Path) -> None:
    story = Story(tmp_path, KeepJobs(count=1))
    story.add([Past("a", 1)] * (2 * SLICE + 2))

    story.retention.recover()
    story.later.pop(0)()
    after_one_turn = len(story.ledger.jobs("a"))
    story.go_on()

    assert after_one_turn == SLICE + 2
    assert len(story.left) == 1


def test_a_job_that_is_held_is_removed_once_it_is_not(tmp_path: Path) -> None:
    story = Story(tmp_path, KeepJobs(count=1))
    jobs = story.add([Past("a", 3), Past("a", 2), Past("a", 1)])
    story.held.add(jobs[0].id)

    story.retention.recover()
    for _ in range(5):
        story.later.pop(0)()
    while_held = story.left
    story.held.clear()
    story.go_on()

    assert while_held == {jobs[0].id, jobs[2].id}
    assert story.left == {jobs[2].id}


class FailingLedger(MemoryLedger):
    """A ledger whose disk is full for a while."""

    failures = 2

    def delete_jobs(self, job_ids: object) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("No space left on device")
        super().delete_jobs(job_ids)


def test_what_cannot_be_removed_is_removed_later(tmp_path: Path) -> None:
    story = Story(tmp_path, KeepJobs(count=1), ledger=FailingLedger())
    jobs = story.add([Past("a", 3), Past("a", 2)])

    story.retention.recover()
    story.go_on()

    assert story.left == {jobs[1].id}


def test_nothing_is_looked_for_where_all_is_kept(tmp_path: Path) -> None:
    story = Story(tmp_path, KeepJobs())
    jobs = story.add([Past("a", 10**5)])

    story.retention.recover()
    story.retention.job_ended(jobs[0])

    assert story.later == []
