"""All jobs of an operator: what fails for one of them, and what an earlier operator left."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cortex.domain.ending import Exit
from cortex.domain.errors import EnvironmentFailed
from cortex.domain.job import Job, JobStatus
from cortex.engines.engine import Engine, WorkerOrder
from cortex.operator.jobs import Jobs
from cortex.operator.submission import read_submission
from cortex.operator.workers import WorkerSetup
from cortex.storage.ledger import Version, WorkerRecord
from cortex.storage.memory import MemoryLedger

VERSION = Version(
    api_id="v1", api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
)
SETUP = WorkerSetup(
    python=Path(),
    project=Path(),
    predictor_path="predictor.py",
    python_path=None,
    config={},
    job_spec={},
    inherited={},
    env={},
    places=9,
)


class FailingLedger(MemoryLedger):
    """A ledger whose disk is full for a while."""

    failures = 0

    def add_worker(self, record: WorkerRecord) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("No space left on device")
        super().add_worker(record)


class ReadyAtOnce:
    """Every environment is there already."""

    def prepare(
        self, version: Version, log: Callable[[str], None], done: Callable[[Path | EnvironmentFailed], None]
    ) -> None:
        done(Path())

    def state(self, version: Version) -> Mapping[str, str]:
        return {}

    def setup(self, version: Version, python: Path, job: Job) -> WorkerSetup:
        return SETUP


class IdleEngine(Engine):
    """Places nothing: the test tells what became of each worker."""

    def __init__(self) -> None:
        self.ordered: list[str] = []

    def start(self, order: WorkerOrder) -> None:
        self.ordered.append(order.worker)

    def stop(self, worker: str, *, at_once: bool) -> None:
        pass

    def idle(self) -> None:
        pass


class Story:
    def __init__(self, root: Path, ledger: FailingLedger) -> None:
        self.ledger = ledger
        self.later: list[Callable[[], None]] = []
        self.jobs = Jobs(
            ledger=ledger,
            root=root,
            preparation=ReadyAtOnce(),
            now_ns=lambda: 1,
            call_later=lambda _, call: self.later.append(call) or (lambda: None),
            background=lambda work, then: (work(), then())[0],
        )
        self.jobs.engine = self.engine = IdleEngine()

    def submit(self) -> str:
        submission = read_submission(b'{"workers": 1, "item_list": {"items": [1, 2], "batch_size": 1}}')
        name = self.jobs.new_job_id()
        job = self.jobs.submit(name, VERSION, submission, self.jobs.write_dataset(name, submission))
        self.jobs.enqueue(job)
        return name

    def started(self) -> None:
        self.jobs.worker_started(self.engine.ordered[-1], pid=1, process_started_at=1.0, supervisor="s")

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
    story.jobs.worker_exited(worker, Exit(status=-15))

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
