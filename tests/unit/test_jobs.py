"""All jobs of an operator: what fails for one of them, and what an earlier operator left."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.domain.batch import BatchState
from cortex.domain.ending import Exit
from cortex.domain.errors import CortexError
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.enqueuing.events import (
    Enqueued,
    EnqueuingFailed,
    FileBegun,
    Happening,
    Progress,
    Restarted,
    Resume,
    SegmentCut,
)
from cortex.operator.jobs import Jobs
from cortex.operator.preparation import Prepared
from cortex.operator.run.workers import WorkerSetup
from cortex.operator.submitting.enqueuing import JobEnqueuing
from cortex.operator.submitting.submission import read_submission
from cortex.storage.ledger import Version, WorkerRecord
from cortex.storage.memory import MemoryLedger
from job_story import IdleEngine, NoExports
from samples import SETUP

VERSION = Version(
    api_id="v1", api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
)


class FailingLedger(MemoryLedger):
    """A ledger whose disk is full for a while."""

    failures = 0

    def add_worker(self, record: WorkerRecord) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("No space left on device")
        super().add_worker(record)

    def publish(self, job_id: str, segment: SegmentRange, **what: Any) -> Job:
        if self.failures:
            self.failures -= 1
            raise OSError("No space left on device")
        return super().publish(job_id, segment, **what)


class ReadyAtOnce:
    """Every environment is there already."""

    def prepare(
        self, version: Version, log: Callable[[str], None], done: Callable[[Prepared | CortexError], None]
    ) -> None:
        done(Prepared(python=Path()))

    def state(self, version: Version) -> Mapping[str, str]:
        return {}

    def setup(self, version: Version, prepared: Prepared, job: Job) -> WorkerSetup:
        return SETUP


class HeldEnqueuers:
    """Cuts no file before it is told to, and then says what it is told to say."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Happening] = asyncio.Queue()
        self.resumed: list[Resume | None] = []
        self.is_over = False

    async def enqueue(self, source, folder, *, allowed=None, resume=None):
        self.resumed.append(resume)
        try:
            while True:
                happening = await self.told.get()
                yield happening
                if isinstance(happening, Enqueued | EnqueuingFailed):
                    return
        finally:
            self.is_over = True


class Story:
    def __init__(self, root: Path, ledger: FailingLedger) -> None:
        self.ledger = ledger
        self.later: list[Callable[[], None]] = []
        self.delays: list[float] = []
        self.enqueuers = HeldEnqueuers()
        self.jobs = Jobs(
            ledger=ledger,
            enqueuing=JobEnqueuing(ledger=ledger, enqueuers=self.enqueuers, allowed=None),
            root=root,
            preparation=ReadyAtOnce(),
            now_ns=lambda: 1,
            call_later=self.call_later,
            background=lambda work, then: (work(), then())[0],
            exports=NoExports(),
        )
        self.jobs.engine = self.engine = IdleEngine()

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        self.later.append(call)
        self.delays.append(seconds)
        return lambda: None

    def submit(self) -> str:
        submission = read_submission(b'{"workers": 1, "item_list": {"items": [1, 2], "batch_size": 1}}')
        name = self.jobs.new_job_id()
        job = self.jobs.submit(name, VERSION, submission, self.jobs.write_dataset(name, submission))
        self.jobs.enqueue(job)
        return name

    def submit_files(self) -> str:
        job = self.record_files()
        self.jobs.enqueue(job)
        return job.id

    def record_files(self) -> Job:
        submission = read_submission(b'{"workers": 1, "delimited_files": {"s3_paths": ["/data/"]}}')
        name = self.jobs.new_job_id()
        return self.jobs.submit(name, VERSION, submission, self.jobs.write_dataset(name, submission))

    def cut(self, job: str, number: int) -> SegmentCut:
        """Write a Segment of two Batches, as an enqueuer does, and give what it says of it."""
        for path in (self.jobs.folder(job).states(number), self.jobs.folder(job).payload(number)):
            path.write_bytes(bytes(2))
        segment = SegmentRange(number=number, first=2 * number, count=2)
        return SegmentCut(segment=segment, items=2, cursor={"number": number})

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0)

    def status(self, job: str) -> JobStatus:
        found = self.ledger.job(job)
        assert found is not None
        return found.status

    def log(self, job: str) -> list[str]:
        return self.jobs.folder(job).log.read_text().splitlines()

    def started(self) -> None:
        self.jobs.worker_events.worker_started(self.engine.ordered[-1], pid=1, process_started_at=1.0, supervisor="s")

    def time_passes(self) -> None:
        due, self.later[:] = list(self.later), []
        for call in due:
            call()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    ledger = FailingLedger()
    ledger.deploy([VERSION])
    story = Story(tmp_path, ledger)
    story.jobs.recover("boot")
    return story


def test_a_job_that_has_its_batches_is_recorded_as_running(story: Story, tmp_path: Path) -> None:
    submission = read_submission(b'{"workers": 1, "item_list": {"items": [1, 2], "batch_size": 1}}')
    name = story.jobs.new_job_id()
    recorded = story.jobs.submit(name, VERSION, submission, story.jobs.write_dataset(name, submission))

    after_a_crash = Story(tmp_path, story.ledger)
    after_a_crash.jobs.recover("boot")

    assert (JobStatus.RUNNING, recorded.created_at_ns) == (recorded.status, recorded.started_at_ns)
    assert recorded == story.ledger.job(name)
    assert len(after_a_crash.engine.ordered) == 1


def test_a_job_that_an_earlier_version_has_recorded_with_its_batches_begins(story: Story, tmp_path: Path) -> None:
    submission = read_submission(b'{"workers": 1, "item_list": {"items": [1, 2], "batch_size": 1}}')
    name = story.jobs.new_job_id()
    recorded = story.jobs.submit(name, VERSION, submission, story.jobs.write_dataset(name, submission))
    ledger = FailingLedger()
    ledger.deploy([VERSION])
    earlier = replace(recorded, status=JobStatus.ENQUEUING, started_at_ns=None)
    ledger.add_job(earlier, story.ledger.segments(name))

    later = Story(tmp_path, ledger)
    later.jobs.recover("boot")

    assert later.status(name) is JobStatus.RUNNING
    assert len(later.engine.ordered) == 1
    assert ["started enqueuing batches to queue", "spinning up workers..."] == [later.log(name)[0], later.log(name)[-1]]


def test_a_worker_that_has_done_the_last_batch_is_let_go_once(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    job = story.submit()
    (worker,) = story.engine.ordered
    told: list[dict[str, Any]] = []
    let_go: list[str] = []
    monkeypatch.setattr(story.engine, "stop", lambda worker, at_once: let_go.append(worker))

    events, connection = story.jobs.worker_events, SimpleNamespace(send=told.append, elsewhere=None)
    story.started()
    events.worker_connected(worker, connection, {"phase": "ready", "has_hook": False})
    story.jobs.folder(job).states(0).write_bytes(bytes([BatchState.SUCCEEDED] * 2))
    for number in (0, 1):
        ended = {"type": "lease_ended", "token": told[number]["token"], "finished": 1, "seconds": 0.1}
        events.worker_says(worker, ended)
    events.worker_drained(worker)
    events.worker_exited(worker, Exit(status=0))

    assert ["lease", "lease", "finish"] == [frame["type"] for frame in told]
    assert story.status(job) is JobStatus.SUCCEEDED
    assert [worker] == let_go


def test_what_fails_is_tried_again_until_its_cause_is_gone(story: Story) -> None:
    job = story.submit()
    story.ledger.failures = 2

    story.started()
    records = [list(story.ledger.workers(job))]
    for _ in range(2):
        story.time_passes()
        records.append(list(story.ledger.workers(job)))

    assert [0, 0, 1] == [len(each) for each in records]


def test_what_failed_is_not_tried_again_for_a_job_that_is_over(story: Story) -> None:
    job = story.submit()
    story.ledger.failures = 1
    story.started()
    (worker,) = story.engine.ordered
    ended: list[str] = []
    story.jobs.stop(job, lambda: ended.append(job))
    story.jobs.worker_events.worker_exited(worker, Exit(status=-15))

    story.time_passes()

    assert ended == [job]
    assert list(story.ledger.workers(job)) == []
    assert story.later == []


def test_a_damaged_job_ends_and_the_others_go_on(story: Story, tmp_path: Path) -> None:
    damaged, sound = story.submit(), story.submit()
    story.jobs.folder(damaged).states(0).unlink()

    following = Story(tmp_path, story.ledger)
    following.jobs.recover("boot")

    ended, running = story.ledger.job(damaged), story.ledger.job(sound)
    assert ended is not None
    assert running is not None
    assert ended.status is JobStatus.UNEXPECTED_ERROR
    assert "damaged" in (ended.status_reason or "")
    assert running.status is JobStatus.RUNNING
    assert [worker.partition("-")[0] for worker in following.engine.ordered] == [sound]


def test_workers_that_nobody_can_bring_back_are_not_waited_for(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.submit()
    story.started()
    delays = []

    for may_return in (False, True):
        monkeypatch.setattr(IdleEngine, "may_return", lambda _, answer=may_return: answer)
        following = Story(tmp_path, story.ledger)
        following.jobs.recover("boot")
        delays.append(following.delays[0])

    assert [0.0, 1.5] == delays


def test_newer_jobs_sort_first_whatever_the_clock_says(story: Story, tmp_path: Path) -> None:
    names = [story.submit() for _ in range(3)]

    following = Story(tmp_path, story.ledger)
    following.jobs.recover("boot")
    names.append(following.submit())

    assert names == sorted(names, reverse=True)
    assert len(set(names)) == 4


def test_the_dataset_of_a_submission_that_was_never_recorded_is_removed(story: Story, tmp_path: Path) -> None:
    name = story.jobs.new_job_id()
    story.jobs.write_dataset(name, read_submission(b'{"workers": 1, "item_list": {"items": [1], "batch_size": 1}}'))

    Story(tmp_path, story.ledger).jobs.recover("boot")

    assert not story.jobs.folder(name).root.exists()


def test_a_job_runs_once_all_its_files_are_enqueued(story: Story) -> None:
    async def tell() -> None:
        job = story.submit_files()
        told = [FileBegun(url="/data/a"), Progress(files=1, batches=2), story.cut(job, 0)]
        for happening in told:
            story.enqueuers.told.put_nowait(happening)
        await story.until(lambda: len(story.ledger.segments(job)) == 1)
        assert story.jobs.enqueuing.progress(job) == Progress(files=1, batches=2)
        assert Counts(in_queue=2) == story.jobs.counts(story.jobs.job("api", job))
        assert story.status(job) is JobStatus.ENQUEUING

        for happening in (story.cut(job, 1), Restarted(how="was killed"), Enqueued(files=1)):
            story.enqueuers.told.put_nowait(happening)
        await story.until(lambda: story.status(job) is JobStatus.RUNNING)

        assert story.jobs.enqueuing.progress(job) is None
        assert Counts(in_queue=4) == story.jobs.counts(story.jobs.job("api", job))
        assert len(story.engine.ordered) == 1
        assert story.log(job) == [
            "started enqueuing batches to queue",
            "enqueuing contents from file /data/a",
            "the enqueuing process was killed, and is started again",
            "completed enqueuing a total of 4 batches",
            "spinning up workers...",
        ]

    asyncio.run(tell())


def test_a_job_whose_files_cannot_be_enqueued_ends_with_the_reason(story: Story) -> None:
    async def tell() -> None:
        job, ended = story.submit_files(), list[str]()
        story.jobs.watch(job, lambda: ended.append(job))
        for happening in (story.cut(job, 0), EnqueuingFailed(reason="/data/a, line 3: is no JSON")):
            story.enqueuers.told.put_nowait(happening)

        await story.until(lambda: ended == [job])

        failed = story.jobs.job("api", job)
        assert failed.status is JobStatus.ENQUEUE_FAILED
        assert failed.status_reason == "/data/a, line 3: is no JSON"
        assert Counts(in_queue=2) == failed.final_counts
        assert story.log(job)[-1] == "failed to enqueue all batches: /data/a, line 3: is no JSON"
        assert story.engine.ordered == []
        assert {path.name for path in story.jobs.folder(job).segments.iterdir()} == {"000000.states"}

    asyncio.run(tell())


def test_a_job_may_be_stopped_while_it_is_enqueued(story: Story) -> None:
    async def tell() -> None:
        job, ended = story.submit_files(), list[str]()
        story.enqueuers.told.put_nowait(story.cut(job, 0))
        await story.until(lambda: len(story.ledger.segments(job)) == 1)

        for _ in range(2):
            story.jobs.stop(job, lambda: ended.append(job))
        await story.until(lambda: ended == [job, job])

        assert story.enqueuers.is_over
        assert story.status(job) is JobStatus.STOPPED
        assert Counts(in_queue=2) == story.jobs.job("api", job).final_counts
        assert {path.name for path in story.jobs.folder(job).segments.iterdir()} == {"000000.states"}

    asyncio.run(tell())


def test_a_job_that_is_stopped_before_it_is_enqueued_is_not_enqueued(story: Story) -> None:
    async def tell() -> None:
        job = story.record_files()
        story.jobs.stop(job.id, lambda: None)

        story.jobs.enqueue(job)

        assert story.status(job.id) is JobStatus.STOPPED
        assert story.jobs.enqueuing.progress(job.id) is None

    asyncio.run(tell())


def test_a_job_that_could_not_begin_begins_once_it_can(story: Story) -> None:
    async def tell() -> None:
        job = story.submit_files()
        story.enqueuers.told.put_nowait(story.cut(job, 0))
        await story.until(lambda: len(story.ledger.segments(job)) == 1)
        states = story.jobs.folder(job).states(0)
        away = states.rename(states.with_name("away"))

        story.enqueuers.told.put_nowait(Enqueued(files=1))
        await story.until(lambda: story.status(job) is JobStatus.RUNNING)
        assert story.engine.ordered == []
        away.rename(states)
        story.time_passes()

        assert len(story.engine.ordered) == 1
        assert story.log(job).count("spinning up workers...") == 1

    asyncio.run(tell())


def test_the_next_operator_goes_on_after_the_last_segment(story: Story, tmp_path: Path) -> None:
    async def tell() -> None:
        job = story.submit_files()
        story.enqueuers.told.put_nowait(story.cut(job, 0))
        await story.until(lambda: len(story.ledger.segments(job)) == 1)
        await story.jobs.enqueuing.close()

        following = Story(tmp_path, story.ledger)
        following.jobs.recover("boot")
        for happening in (following.cut(job, 1), Enqueued(files=1)):
            following.enqueuers.told.put_nowait(happening)
        await following.until(lambda: following.status(job) is JobStatus.RUNNING)

        assert [None] == story.enqueuers.resumed
        assert [Resume(number=1, first=2, cursor={"number": 0})] == following.enqueuers.resumed
        assert following.jobs.job("api", job).total_batch_count == 4

    asyncio.run(tell())


def test_a_segment_is_published_once_that_is_possible(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cortex.operator.submitting.enqueuing._RETRY_SECONDS", 0)

    async def tell() -> None:
        job = story.submit_files()
        story.ledger.failures = 3
        for happening in (story.cut(job, 0), Enqueued(files=1)):
            story.enqueuers.told.put_nowait(happening)

        await story.until(lambda: story.status(job) is JobStatus.RUNNING)

        assert len(story.ledger.segments(job)) == 1

    asyncio.run(tell())
