"""A job without progress says since when, and why."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.domain.batch import Page
from cortex.domain.identity import batch_id
from cortex.domain.job import JobStatus
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease
from cortex.enqueuing.events import Progress
from cortex.operator.run.workers import Phase, RollCall, WorkerView
from cortex.operator.upkeep import stall_watch
from cortex.operator.upkeep.stall import Busy, Facts, explain, instant, span
from cortex.operator.upkeep.stall_watch import StallWatch
from cortex.operator.upkeep.trouble import Troubles
from cortex.storage.ledger import WorkerRecord
from cortex.storage.pages import create_page, read_page
from samples import JOB

SECOND = 10**9
RUNNING = replace(JOB, status=JobStatus.RUNNING)
WORKER = f"{JOB.id}-w"


def busy(what: str, seconds: int, pid: int | None = 7) -> Busy:
    return Busy(what=what, pid=pid, since_ns=(1000 - seconds) * SECOND)


NOTHING = Facts(now_ns=1000 * SECOND, since_ns=688 * SECOND)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            replace(NOTHING, batches=[busy("batch abc", 312)]),
            "no batch has ended for 5m 12s: batch abc has been running for 5m 12s in worker pid-7",
        ),
        (
            replace(NOTHING, batches=[busy("batch abc", 312), busy("batch de", 400, 8)]),
            "no batch has ended for 5m 12s: batch de has been running for 6m 40s in worker pid-8, and 1 other for less",
        ),
        (
            replace(NOTHING, environment="building: numpy", starts=[busy("it", 1)]),
            "no batch has ended for 5m 12s: the environment is not ready (building: numpy)",
        ),
        (
            replace(NOTHING, starts=[busy("the start of a predictor", 100)], shortage="1 of 2 workers waits"),
            "no batch has ended for 5m 12s: the start of a predictor has been running for 1m 40s in worker pid-7",
        ),
        (
            replace(NOTHING, imports=2),
            "no batch has ended for 5m 12s: 2 workers are being started (the predictor's import)",
        ),
        (replace(NOTHING, lost=1), "no batch has ended for 5m 12s: 1 worker of an earlier operator is looked for"),
        (replace(NOTHING, shortage="1 of 2 workers waits"), "no batch has ended for 5m 12s: 1 of 2 workers waits"),
        (
            replace(NOTHING, next_attempt_at_ns=1060 * SECOND),
            "no batch has ended for 5m 12s: what has failed is tried again at 1970-01-01 00:17:40 UTC",
        ),
        (NOTHING, "no batch has ended for 5m 12s: no worker is in one"),
        (
            replace(NOTHING, hook=busy("`on_job_complete`", 312)),
            "all batches have ended: `on_job_complete` has been running for 5m 12s in worker pid-7",
        ),
        (
            replace(NOTHING, is_ending=True),
            "the end of the job has not been recorded for 5m 12s; the operator's log may say why",
        ),
    ],
)
def test_the_cause_is_said_that_all_others_follow_from(facts: Facts, said: str) -> None:
    assert said == explain(facts)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (312, "5m 12s"), (3600, "1h"), (11_100, "3h 5m"), (183_600, "2d 3h")],
)
def test_a_span_is_written_in_its_two_largest_units(seconds: int, written: str) -> None:
    assert written == span(seconds * SECOND)


@dataclass
class Run:
    """A run as the watch sees it, with one worker."""

    folder: JobFolder
    job: Any = RUNNING
    workers: dict[str, WorkerView] = field(default_factory=lambda: {WORKER: WorkerView(phase=Phase.READY, pid=7)})
    missing: set[str] = field(default_factory=set)
    leases: list[Lease] = field(default_factory=list)
    shortage: str | None = None
    next_at_ns: int | None = None
    is_ending: bool = False
    is_in_hook: bool = False
    is_prepared: bool = True
    batches_told: int = 0

    @property
    def dispatch(self) -> Any:
        return SimpleNamespace(leases=lambda: self.leases)

    @property
    def attempts(self) -> Any:
        return SimpleNamespace(backoff=SimpleNamespace(next_at_ns=self.next_at_ns))

    def roll_call(self) -> RollCall:
        return RollCall(counts={}, shortage=self.shortage)


class Story:
    """A job, a clock, and a watch that calls a minute without progress a stall."""

    def __init__(self, root: Path) -> None:
        self.now_ns = 1000 * SECOND
        self.folder = JobFolder(root / JOB.id)
        self.folder.workers.mkdir(parents=True)
        create_page(self.folder, WORKER)
        self.run = Run(self.folder)
        self.troubles = Troubles(now_ns=lambda: self.now_ns)
        self.enqueued: dict[str, Progress] = {}
        self.environment = {"status": "ready", "message": ""}
        self.records: list[WorkerRecord] = []
        self.jobs = SimpleNamespace(
            runs={JOB.id: self.run},
            troubles=self.troubles,
            enqueuing=SimpleNamespace(
                in_progress=self.enqueued, progress=self.enqueued.get, troubles=Troubles(now_ns=lambda: self.now_ns)
            ),
            folder=lambda _: self.folder,
            ledger=SimpleNamespace(workers=lambda _: self.records, version=lambda _: "v1"),
            engine=SimpleNamespace(has_place=lambda _: True),
            preparation=SimpleNamespace(state=lambda _: self.environment),
        )
        self.later: list[Callable[[], None]] = []
        self.is_draining = False
        self.watch = StallWatch(
            jobs=self.jobs,
            stall_seconds=60,
            now_ns=lambda: self.now_ns,
            call_later=lambda _, call: self.later.append(call) or (lambda: None),
            is_draining=lambda: self.is_draining,
        )
        self.watch.look()

    def after(self, seconds: int, job: Any = RUNNING) -> str | None:
        """Let time go by, look, and give what is said then."""
        self.now_ns += seconds * SECOND
        self.watch.look()
        return self.watch.reason(job)

    def write(self, **words: int) -> None:
        with self.folder.page(WORKER).open("r+b") as page:
            for word, value in words.items():
                page.seek(8 * getattr(Page, word))
                page.write(value.to_bytes(8, "little"))

    def begin(self, batch: int) -> None:
        """Have the worker call predict now."""
        self.run.leases = [Lease(token=1, worker=WORKER, segment=0, first=0, end=10)]
        self.write(CURRENT=batch + 1, STARTED_AT_NS=self.now_ns)

    @property
    def log(self) -> list[str]:
        return self.folder.log.read_text().splitlines() if self.folder.log.exists() else []


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_batch_that_runs_for_long_is_named_with_its_worker(story: Story) -> None:
    story.begin(3)

    assert story.after(59) is None
    running = f"batch {batch_id(JOB.id, 3)} has been running for"
    assert story.after(1) == f"no batch has ended for 1m: {running} 1m in worker pid-7"
    assert story.after(60) == f"no batch has ended for 2m: {running} 2m in worker pid-7"


def test_a_part_of_a_batch_is_named_by_its_items(story: Story) -> None:
    story.begin(3)
    story.write(PART_FIRST=4, PART_END=8)

    assert f"items 4 to 7 of batch {batch_id(JOB.id, 3)} has been running" in (story.after(60) or "")


def test_whether_results_wait_for_room_is_not_asked_of_thousands_of_workers(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.begin(0)
    story.write(NO_ROOM_SINCE_NS=story.now_ns)
    story.run.leases *= 5000
    read: list[str] = []
    monkeypatch.setattr(stall_watch, "read_page", lambda folder, name: read.append(name) or read_page(folder, name))

    assert "disk is full" in (story.watch.reason(RUNNING) or "")
    assert len(read) < 200


def test_the_disk_that_is_full_is_the_workers_own_where_that_is_elsewhere(story: Story) -> None:
    story.begin(0)
    story.write(NO_ROOM_SINCE_NS=story.now_ns, COPY_OF=1)

    assert (story.watch.reason(RUNNING) or "").startswith("the disk of a worker's machine is full: ")


def test_a_stall_is_told_once_in_the_log_and_so_is_its_end(story: Story) -> None:
    story.begin(0)
    for _ in range(4):
        story.after(30)
    story.write(FINISHED=1)
    story.begin(1)
    story.after(1)
    story.after(1)

    first, second = story.log
    assert first.startswith("no batch has ended for 1m: ")
    assert second == "the job goes on, after 2m 1s"


def test_a_stall_that_follows_at_once_on_another_is_told_as_one_of_its_own(story: Story) -> None:
    story.begin(0)
    story.after(60)
    story.begin(0)  # in another worker, after a death
    story.after(60)

    assert [line[:13] for line in story.log] == ["no batch has ", "the job goes ", "no batch has "]


def test_batches_that_end_are_progress_however_few_leases_end(story: Story) -> None:
    for finished in range(1, 6):
        story.write(FINISHED=finished)
        assert story.after(50) is None
    assert story.log == []


def test_what_fails_in_the_operator_is_said_at_once_and_no_longer_than_it_fails(story: Story) -> None:
    trouble = story.troubles.note(None, WORKER, OSError("No space left on device"))

    said = story.after(3)
    again = story.troubles.note(trouble, WORKER, OSError("Input/output error"))
    said_later = story.after(3)
    story.troubles.forget(again)

    since = "1970-01-01 00:16:40 UTC"
    assert said == f"something has been failing for 3s, since {since}, and is tried again: No space left on device"
    assert said_later == f"something has been failing for 6s, since {since}, and is tried again: Input/output error"
    assert story.after(3) is None


def test_a_worker_whose_predictor_does_not_become_ready_is_named(story: Story) -> None:
    story.run.workers[WORKER].phase = Phase.INITIALIZING
    record = WorkerRecord(worker=WORKER, job_id=JOB.id, supervisor="s", pid=7, process_started_at=990.0)
    story.records.append(record)

    starting = "the start of a predictor (import and `__init__`) has been running for 1m 10s in worker pid-7"
    assert story.after(60) == f"no batch has ended for 1m: {starting}"


def test_a_worker_elsewhere_is_named_with_its_node_and_does_not_run_since_1970(story: Story) -> None:
    view = story.run.workers[WORKER]
    view.phase, view.node = Phase.INITIALIZING, "10.0.0.3"
    record = WorkerRecord(worker=WORKER, job_id=JOB.id, supervisor="s", pid=7, process_started_at=0.0)
    story.records.append(record)

    starting = "the start of a predictor (import and `__init__`) has been running for 1m in worker pid-7@10.0.0.3"
    assert story.after(60) == f"no batch has ended for 1m: {starting}"


def test_an_environment_that_is_built_for_long_is_said(story: Story) -> None:
    story.run.workers.clear()
    story.run.is_prepared = False
    story.environment = {"status": "building", "message": "Downloading torch"}

    assert story.after(60) == ("no batch has ended for 1m: the environment is not ready (building: Downloading torch)")


def test_a_hook_that_runs_for_long_is_said(story: Story) -> None:
    story.run.is_in_hook = True

    said = "all batches have ended: `on_job_complete` has been running for 1m in worker pid-7"
    assert story.after(60) == said


def test_a_job_that_waits_for_a_retry_says_until_when(story: Story) -> None:
    story.run.next_at_ns = 2000 * SECOND

    said = f"what has failed is tried again at {instant(2000 * SECOND)}"
    assert story.after(60) == f"no batch has ended for 1m: {said}"


def test_enqueuing_that_does_not_go_on_says_how_far_it_is(story: Story) -> None:
    story.jobs.runs.clear()
    story.enqueued[JOB.id] = Progress(files=0, batches=0)

    story.watch.look()
    assert "no file is listed yet" in (story.after(60, JOB) or "")
    story.enqueued[JOB.id] = Progress(files=2, batches=70)
    assert story.after(1, JOB) is None
    said = "enqueuing has not gone on for 1m: 2 files are listed and 70 batches enqueued so far"
    assert story.after(60, JOB) == said


def test_a_paused_job_says_how_to_go_on_and_is_not_stalled(story: Story) -> None:
    paused = replace(RUNNING, status=JobStatus.PAUSED)
    story.run.job = paused

    assert story.after(600, paused) == f"it is paused; `cortex resume api {JOB.id}` goes on with it"
    assert story.log == []


def test_a_resumed_job_is_not_blamed_for_its_pause(story: Story) -> None:
    story.run.job = replace(RUNNING, status=JobStatus.PAUSED)
    story.after(600)
    story.run.job = RUNNING

    assert story.after(59) is None


def test_an_operator_that_stops_says_so_of_its_jobs(story: Story) -> None:
    story.is_draining = True

    assert "the operator is about to stop" in (story.watch.reason(RUNNING) or "")
    assert story.watch.reason(replace(RUNNING, status=JobStatus.SUCCEEDED)) is None


def test_a_job_whose_results_are_being_written_is_not_stalled(story: Story) -> None:
    story.run.is_ending = True
    story.watch.exporting = lambda _: "writing results to /out"

    assert story.after(60) is None
    story.watch.exporting = lambda _: None
    assert story.after(1) == "the end of the job has not been recorded for 1m 1s; the operator's log may say why"


def test_what_is_over_is_forgotten(story: Story) -> None:
    story.begin(0)
    story.after(60)
    story.jobs.runs.clear()
    story.after(1)
    story.jobs.runs[JOB.id] = story.run

    assert story.after(1) is None


def test_a_failing_look_is_not_the_last(story: Story) -> None:
    story.watch.start()
    story.run.workers = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        story.later.pop()()

    assert len(story.later) == 1


def test_batches_that_have_ended_are_noticed_without_a_look_at_any_page(story: Story) -> None:
    story.begin(3)
    story.after(59)
    story.folder.page(WORKER).unlink()

    story.run.batches_told += 1

    assert story.after(2) is None
    assert story.after(57) is None
    assert story.after(3) is not None
