"""Making a Job of what another one has left: what is refused, what the new Job is, and that nothing is left behind."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.domain.batch import BatchState
from cortex.domain.errors import ApiNotFound, Conflict, DataDamaged, InvalidRequest, JobNotFound
from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.output import Output
from cortex.domain.policy import OnFailedBatch, Policy
from cortex.domain.rerun import RerunVersion, RerunWhat
from cortex.domain.source import FileSource, SourceKind
from cortex.domain.submission_key import SubmissionKey
from cortex.operator.deployments import Deployments
from cortex.operator.jobs import Jobs
from cortex.operator.machine import Machine
from cortex.operator.submitting import rerun as rerun_module
from cortex.operator.submitting.enqueuing import JobEnqueuing
from cortex.operator.submitting.rerun import RerunRequest, Reruns, read_rerun
from cortex.storage.ledger import UnsyncedFile, Version
from cortex.storage.memory import MemoryLedger
from job_files import make_job, set_states
from job_story import NoExports

EARLIER = f"{99:016x}"
OPEN, SUCCEEDED, FAILED = BatchState.OPEN, BatchState.SUCCEEDED, BatchState.FAILED
JOB = Job(
    id=EARLIER,
    api_name="api",
    api_id="v1",
    workers=3,
    config={"a": 1},
    policy=Policy(on_failed_batch=OnFailedBatch.ISOLATE),
    output=Output(path="/out"),
    batch_size=2,
    item_count=8,
    total_batch_count=4,
    status=JobStatus.ENQUEUING,
    created_at_ns=1,
)


def version(api_id: str) -> Version:
    return Version(
        api_id=api_id, api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
    )


class Story:
    """An API whose second version is deployed, and a Job of the first."""

    def __init__(self, root: Path) -> None:
        def background(work: Callable[[], None], then: Callable[[], None]) -> None:
            work()
            then()

        self.ledger = MemoryLedger()
        self.ledger.deploy([version("v1")])
        self.jobs = Jobs(
            ledger=self.ledger,
            enqueuing=JobEnqueuing(ledger=self.ledger, enqueuers=None, allowed=None),  # type: ignore[arg-type]
            root=root / "jobs",
            preparation=None,  # type: ignore[arg-type]
            now_ns=lambda: 77,
            call_later=lambda _, __: lambda: None,
            background=background,
            exports=NoExports(),
        )
        self.deployments = Deployments(
            ledger=self.ledger,
            root=root / "projects",
            uploads=root / "uploads",
            machine=Machine(cpu_cores=1, mem_bytes=1, gpus=0),
            now_ns=lambda: 1,
            background=background,
        )
        self.before_folder: Callable[[], object] = lambda: None  # what happens meanwhile
        self.before_record: Callable[[], object] = lambda: None
        self.reruns = Reruns(ledger=self.ledger, jobs=self.jobs, deployments=self.deployments)

    def job(self, *states: BatchState, status: JobStatus = JobStatus.COMPLETED_WITH_FAILURES, **changes: object) -> Job:
        """Let the earlier Job end with its Batches in these states."""
        _, segments = make_job(self.jobs.root / EARLIER, len(states))
        set_states(self.jobs.folder(EARLIER), segments[0], states)
        self.ledger.add_job(replace(JOB, **changes), segments)  # type: ignore[arg-type]
        self.ledger.deploy([version("v2")])
        self.deployments.recover()
        self.ledger.move(EARLIER, JobStatus.RUNNING, at_ns=2)
        if status is JobStatus.STOPPED:
            self.ledger.move(EARLIER, JobStatus.STOPPING, at_ns=3, ending=JobStatus.STOPPED)
        counts = Counts(
            succeeded=states.count(SUCCEEDED),
            failed=states.count(FAILED) + states.count(BatchState.GIVEN_UP),
            in_queue=states.count(OPEN),
        )
        files = {"segments/000000.states": bytes(states)}
        return self.ledger.move(EARLIER, status, at_ns=4, counts=counts, files=files)

    def rerun(self, job: Job, key: SubmissionKey | None = None, **request: object) -> Job:
        with self.reruns.begin(job, RerunRequest(**request)) as rerun:  # type: ignore[arg-type]
            self.before_folder()
            rerun.make_folder()
            self.before_record()
            return self.reruns.record(rerun, key)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.jobs.root.iterdir())

    def log(self, job: Job) -> str:
        return self.jobs.folder(job.id).log.read_text()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


# The request


@pytest.mark.parametrize("body", [b"", b" \n", b"{}"])
def test_a_request_may_be_empty(body: bytes) -> None:
    assert RerunRequest(what=RerunWhat.FAILED, version=RerunVersion.CURRENT, workers=None) == read_rerun(body)


def test_a_request_says_what_how_and_by_how_many() -> None:
    expected = RerunRequest(what=RerunWhat.HOOK, version=RerunVersion.ORIGINAL, workers=7)

    assert expected == read_rerun(b'{"what": "hook", "version": "original", "workers": 7}')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", "the request must be a JSON object"),
        (b"{", "the request is not JSON: EOF while parsing an object"),
        (b'{"what": "\xff"}', "the request is not JSON: "),
        (b'{"what": "some"}', "what: got `some` (string), must be `failed`, `all` or `hook`"),
        (b'{"version": 1}', "version: got `1` (integer), must be `current` or `original`"),
        (b'{"workers": 0}', "workers: got `0` (integer), must be at least 1"),
        (b'{"workers": "2"}', "workers: got `2` (string), must be a whole number, or such as `{"),
        (b'{"workers": {"max": 2}}', "workers.min: is required"),
        (b'{"workers": {"min": 1, "max": 2, "mx": 3}}', "workers.mx: unknown field; did you mean `max`?"),
        (b'{"worker": 2}', "worker: unknown field; did you mean `workers`? (allowed: version, what, workers)"),
        (b'{"what": 1, "workers": true}', "workers: got `true` (boolean), must be a whole number, or such as"),
        (b"[" * 100_000, "the request "),
    ],
)
def test_what_is_wrong_with_a_request_is_told(body: bytes, expected: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_rerun(body)

    assert expected in refused.value.message


# The new Job


def test_a_rerun_asks_for_what_the_earlier_job_has_asked_for(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED, SUCCEEDED, FAILED)

    made = story.rerun(earlier)

    expected = replace(JOB, id=made.id, api_id="v2", rerun_of=EARLIER, origin=EARLIER, created_at_ns=77)
    assert expected == made == story.ledger.job(made.id)
    assert list(story.ledger.segments(EARLIER)) == list(story.ledger.segments(made.id))
    assert f"rerunning 2 failed batches of job {EARLIER}\n" == story.log(made)


@pytest.mark.parametrize(("chosen", "expected"), [("current", "v2"), ("original", "v1")])
def test_a_rerun_is_of_the_version_that_is_asked_for(story: Story, chosen: str, expected: str) -> None:
    made = story.rerun(story.job(FAILED), version=RerunVersion(chosen))

    assert expected == made.api_id


def test_a_rerun_of_a_rerun_keeps_the_first_job_in_mind(story: Story) -> None:
    earlier = story.job(FAILED, origin=f"{123:016x}")

    made = story.rerun(earlier, workers=5)

    assert (EARLIER, f"{123:016x}", 5) == (made.rerun_of, made.origin, made.workers)


def test_a_rerun_is_elastic_as_its_job_or_as_it_says(story: Story) -> None:
    earlier = story.job(FAILED, workers=8, workers_min=2)

    made = [story.rerun(earlier), story.rerun(earlier, workers={"min": 1, "max": 3}), story.rerun(earlier, workers=4)]

    assert [(8, 2), (3, 1), (4, None)] == [(each.workers, each.workers_min) for each in made]


@pytest.mark.parametrize(
    ("states", "what", "line"),
    [
        ([FAILED, SUCCEEDED], "failed", "rerunning 1 failed batch of job"),
        (
            [BatchState.GIVEN_UP, BatchState.FAILED_IN_PART, OPEN],
            "failed",
            "rerunning 2 failed and 1 unfinished batches",
        ),
        ([OPEN, SUCCEEDED], "failed", "rerunning 1 unfinished batch of job"),
        ([SUCCEEDED] * 3, "all", "rerunning all 4 batches of job"),
        ([SUCCEEDED], "hook", "rerunning on_job_complete of job"),
    ],
)
def test_the_log_begins_with_what_is_rerun(story: Story, states: list[BatchState], what: str, line: str) -> None:
    earlier = story.job(*states, status=JobStatus.STOPPED)
    if BatchState.FAILED_IN_PART in states:
        counts = Counts(failed=2, in_queue=1)
        story.ledger._jobs[EARLIER] = earlier = replace(earlier, final_counts=counts)

    made = story.rerun(earlier, what=RerunWhat(what))

    assert story.log(made).startswith(line)


def test_uploaded_items_are_looked_for_in_the_new_folder(story: Story) -> None:
    upload = story.jobs.folder(EARLIER).uploads / "u"
    source = FileSource(kind=SourceKind.FILE_PATH_LISTER, paths=(f"{upload}/", "s3://bucket/x"), batch_size=2)
    earlier = story.job(FAILED, source=source)
    upload.mkdir(parents=True)

    made = story.rerun(earlier)

    expected = replace(source, paths=(f"{story.jobs.folder(made.id).uploads / 'u'}/", "s3://bucket/x"))
    assert expected == made.source


def death(batch: int) -> Death:
    return Death(batch=batch, part=Part(0, 2), deaths=1, timeouts=0, cause="exited", kind=DeathKind.DIED)


@pytest.mark.parametrize(("what", "expected"), [("failed", []), ("all", []), ("hook", [death(1)])])
def test_accounts_are_of_batches_that_are_not_run_again(story: Story, what: str, expected: list[Death]) -> None:
    earlier = story.job(SUCCEEDED, BatchState.GIVEN_UP)
    story.ledger.charge_death(EARLIER, 1, Part(0, 2), kind=DeathKind.DIED, cause="exited")

    made = story.rerun(earlier, what=RerunWhat(what))

    assert expected == list(story.ledger.deaths(made.id))


def test_a_rerun_has_the_key_of_its_request(story: Story) -> None:
    key = SubmissionKey.of("k", b"body")

    made = story.rerun(story.job(FAILED), key)

    assert (made, key) == story.ledger.keyed_job("api", "k")


# What is refused


@pytest.mark.parametrize(
    ("states", "status", "what", "expected"),
    [
        ([SUCCEEDED], JobStatus.SUCCEEDED, "failed", " --all` runs every batch again"),
        ([SUCCEEDED], JobStatus.WORKER_ERROR, "failed", " --hook` runs on_job_complete again"),
        ([FAILED, OPEN, OPEN], JobStatus.STOPPED, "hook", "2 batches of job"),
    ],
)
def test_where_there_is_nothing_to_rerun_that_is_said(
    story: Story, states: list[BatchState], status: JobStatus, what: str, expected: str
) -> None:
    earlier = story.job(*states, status=status)

    with pytest.raises(Conflict) as refused:
        story.rerun(earlier, what=RerunWhat(what))

    assert expected in str(refused.value)
    assert [EARLIER] == story.folders()


@pytest.mark.parametrize("what", RerunWhat)
def test_a_job_in_progress_is_not_rerun(story: Story, what: RerunWhat) -> None:
    _, segments = make_job(story.jobs.root / EARLIER, 4)
    story.ledger.add_job(JOB, segments)
    running = story.ledger.move(EARLIER, JobStatus.RUNNING, at_ns=2)

    with pytest.raises(Conflict, match="is still in progress"):
        story.rerun(running, what=what)


@pytest.mark.parametrize("what", RerunWhat)
@pytest.mark.parametrize("status", [JobStatus.ENQUEUE_FAILED, JobStatus.UNEXPECTED_ERROR])
def test_a_job_whose_batches_were_never_all_enqueued_is_to_be_submitted_again(
    story: Story, status: JobStatus, what: RerunWhat
) -> None:
    story.ledger.add_job(JOB, [])
    ended = story.ledger.move(EARLIER, status, at_ns=2, counts=Counts(in_queue=4))

    with pytest.raises(Conflict) as refused:
        story.rerun(ended, what=what)

    assert "hint: submit it again" in str(refused.value)


# What goes wrong on the way


def test_damaged_files_are_told_and_nothing_is_left(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED)
    os.truncate(story.jobs.folder(EARLIER).states(0), 1)

    with pytest.raises(DataDamaged, match=f"job `{EARLIER}` cannot be rerun: "):
        story.rerun(earlier)

    assert [EARLIER] == story.folders()
    assert [EARLIER] == [job.id for job in story.ledger.jobs("api")]


def test_a_job_that_is_deleted_meanwhile_is_not_rerun(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED)
    story.before_record = lambda: story.ledger.delete_jobs([EARLIER])

    with pytest.raises(JobNotFound):
        story.rerun(earlier)

    assert [EARLIER] == story.folders()
    assert [] == story.ledger.jobs("api")


def test_a_job_whose_files_are_removed_meanwhile_is_not_found(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED)

    def remove() -> None:
        story.ledger.delete_jobs([EARLIER])
        story.jobs.discard(EARLIER)

    story.before_folder = remove

    with pytest.raises(JobNotFound):
        story.rerun(earlier)

    assert [] == story.folders()


def test_the_job_of_an_api_that_is_being_deleted_is_not_rerun(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED)
    story.before_record = lambda: story.deployments.begin_delete("api")

    with pytest.raises(ApiNotFound):
        story.rerun(earlier)

    assert [EARLIER] == story.folders()


def test_a_job_is_held_while_its_rerun_is_made(story: Story) -> None:
    earlier = story.job(SUCCEEDED, FAILED)
    seen = [story.reruns.is_held(EARLIER)]

    with story.reruns.begin(earlier, RerunRequest()) as first:
        with story.reruns.begin(earlier, RerunRequest()) as second:
            assert first.job.id != second.job.id
            seen.append(story.reruns.is_held(EARLIER))
        seen.append(story.reruns.is_held(EARLIER))

    assert [False, True, True, False] == [*seen, story.reruns.is_held(EARLIER)]


# What is not synced


def test_what_only_the_ledger_has_of_the_earlier_job_is_synced_before_it_is_linked(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = story.job(SUCCEEDED, FAILED)
    story.ledger.add_job(replace(JOB, id="f" * 16), [], None, (), {"segments/of-another": b""})
    synced: list[tuple[list[str], list[str]]] = []

    def sync(root: Path, files: list[UnsyncedFile]) -> None:
        assert root == story.jobs.root
        synced.append(([file.name for file in files], story.folders()))

    monkeypatch.setattr(rerun_module, "sync_unsynced", sync)

    story.rerun(job)

    assert [(["segments/000000.states"], [EARLIER])] == synced
