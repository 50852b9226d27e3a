"""Every promise of the ledger, of everything that keeps it."""

import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from cortex.domain.errors import StartRefused, StorageFull
from cortex.domain.job import MOVES, Counts, Job, JobStatus, SegmentRange
from cortex.domain.source import FileSource, SourceKind
from cortex.domain.submission_key import SubmissionKey
from cortex.storage.ledger import Death, Ledger, Version, WorkerRecord
from cortex.storage.memory import MemoryLedger
from cortex.storage.sqlite import SqliteLedger

FINAL = sorted(status for status in JobStatus if status.is_final)
ILLEGAL = [(one, other) for one in JobStatus for other in JobStatus if other not in MOVES[one]]


@pytest.fixture(params=[MemoryLedger, SqliteLedger])
def ledger(request: pytest.FixtureRequest, tmp_path: Path):
    ledger = SqliteLedger(tmp_path / "ledger.sqlite") if request.param is SqliteLedger else MemoryLedger()
    yield ledger
    ledger.close()


def version(name: str = "api", content: str = "1", **changes: Any) -> Version:
    return Version(
        **{
            "api_id": f"{name}-{content}",
            "api_name": name,
            "kind": "BatchAPI",
            "endpoint": f"/{name}",
            "spec": {"name": name, "predictor": {"config": {"big": 2**70, "text": "ä", "nothing": None}}},
            "project_id": f"project-{content}",
            "deployed_at_ns": 1,
            **changes,
        }
    )


def job(number: int = 1, api: str = "api", content: str = "1", **changes: Any) -> Job:
    return Job(
        **{
            "id": f"{number:016x}",
            "api_name": api,
            "api_id": f"{api}-{content}",
            "workers": 2,
            "config": {"a": [1, {"b": 2**70}]},
            "batch_size": 10,
            "item_count": 95,
            "total_batch_count": 10,
            "status": JobStatus.ENQUEUING,
            "created_at_ns": 2**60 - number,
            **changes,
        }
    )


def record(worker: str = "worker-1", job_id: str = job().id, **changes: Any) -> WorkerRecord:
    fields = {"worker": worker, "job_id": job_id, "supervisor": "s", "pid": 7, "process_started_at": 1.25, **changes}
    return WorkerRecord(**fields)


SEGMENTS = [SegmentRange(number=0, first=0, count=4), SegmentRange(number=1, first=4, count=6)]
COUNTS = Counts(succeeded=7, failed=3)


def with_job(ledger: Ledger, status: JobStatus = JobStatus.ENQUEUING) -> Job:
    """Give a Job of a deployed API that has come to this status."""
    ledger.deploy([version()])
    ledger.add_job(job(), SEGMENTS)
    way = {
        JobStatus.ENQUEUING: [],
        JobStatus.ENQUEUE_FAILED: [JobStatus.ENQUEUE_FAILED],
        JobStatus.RUNNING: [JobStatus.RUNNING],
        JobStatus.STOPPED: [JobStatus.STOPPING, JobStatus.STOPPED],
        JobStatus.STOPPING: [JobStatus.STOPPING],
    }.get(status, [JobStatus.RUNNING, status])
    for step in way:
        ledger.move(job().id, step, at_ns=5, counts=COUNTS if step.is_final else None)
    found = ledger.job(job().id)
    assert found is not None
    return found


# Files that become Segments


SOURCE = FileSource(kind=SourceKind.DELIMITED_FILES, paths=("s3://b/k",), includes=("**.json",), batch_size=10)


def with_files(ledger: Ledger) -> Job:
    """Give a Job whose files are being enqueued."""
    ledger.deploy([version()])
    ledger.add_job(job(source=SOURCE, item_count=0, total_batch_count=0), [])
    return job(source=SOURCE, item_count=0, total_batch_count=0)


def test_a_job_keeps_where_its_items_come_from(ledger: Ledger):
    assert with_files(ledger) == ledger.job(job().id)


def test_a_job_has_the_batches_and_items_of_the_segments_that_are_published(ledger: Ledger):
    expected = with_files(ledger)

    for segment, items in zip(SEGMENTS, (40, 55), strict=True):
        published = ledger.publish(job().id, segment, item_count=items, cursor={"file": segment.number})
        expected = replace(
            expected,
            total_batch_count=expected.total_batch_count + segment.count,
            item_count=expected.item_count + items,
        )
        assert expected == published == ledger.job(job().id)
        assert ledger.cursor(job().id) == {"file": segment.number}
    assert SEGMENTS == list(ledger.segments(job().id))


def test_there_is_no_cursor_before_a_segment_is_published(ledger: Ledger):
    with_files(ledger)

    assert ledger.cursor(job().id) is None
    assert ledger.cursor("0" * 16) is None


@pytest.mark.parametrize(
    "wrong", [SEGMENTS[0], SegmentRange(number=2, first=4, count=1), SegmentRange(number=1, first=5, count=1)]
)
def test_a_segment_is_published_once_and_in_its_place(ledger: Ledger, wrong: SegmentRange):
    with_files(ledger)
    before = ledger.publish(job().id, SEGMENTS[0], item_count=40, cursor={"file": 0})

    with pytest.raises(ValueError, match="next segment"):
        ledger.publish(job().id, wrong, item_count=1, cursor={"file": 1})

    assert before == ledger.job(job().id)
    assert [SEGMENTS[0]] == list(ledger.segments(job().id))
    assert ledger.cursor(job().id) == {"file": 0}


@pytest.mark.parametrize("status", [JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.ENQUEUE_FAILED])
def test_only_a_job_that_is_being_enqueued_gets_segments(ledger: Ledger, status: JobStatus):
    with_files(ledger)
    ledger.move(job().id, status, at_ns=5, counts=Counts() if status.is_final else None)

    with pytest.raises(ValueError, match=job().id):
        ledger.publish(job().id, SEGMENTS[0], item_count=40, cursor={})

    assert list(ledger.segments(job().id)) == []


def test_nothing_is_published_for_a_job_that_is_not_there(ledger: Ledger):
    with pytest.raises(ValueError, match="there is no job"):
        ledger.publish("0" * 16, SEGMENTS[0], item_count=40, cursor={})


# The life of an operator


def test_every_epoch_is_higher_than_the_earlier_ones(ledger: Ledger):
    epochs = [ledger.begin_epoch(boot_id)[0] for boot_id in ("a", "a", "b", "a")]

    assert epochs == sorted(set(epochs))
    assert epochs[0] > 0


def test_an_epoch_tells_whether_the_machine_has_been_started_anew(ledger: Ledger):
    assert [False, False, True, False, True] == [
        ledger.begin_epoch(boot_id)[1] for boot_id in ("a", "a", "b", "b", "a")
    ]


# APIs


def test_an_empty_ledger_knows_nothing(ledger: Ledger):
    assert list(ledger.versions()) == []
    assert ledger.version("api-1") is None
    assert ledger.project_ids() == set()
    assert ledger.job(job().id) is None
    assert list(ledger.jobs("api")) == []
    assert list(ledger.jobs_in_progress()) == []
    assert ledger.newest_job("api") is None
    assert ledger.count_in_progress("api") == 0
    assert list(ledger.ended_jobs_beyond("api", 0, limit=9)) == []
    assert list(ledger.jobs_ended_before(2**60, limit=9)) == []
    assert list(ledger.segments(job().id)) == []
    assert list(ledger.workers(job().id)) == []
    assert list(ledger.deaths(job().id)) == []


def test_an_empty_ledger_has_no_newest_job_id(ledger: Ledger):
    assert ledger.newest_job_id() is None


def test_a_version_is_read_back_as_it_was_deployed(ledger: Ledger):
    ledger.deploy([version()])

    assert version() == ledger.version("api-1")
    assert [version()] == list(ledger.versions())


def test_the_deployed_version_of_every_api_is_given_by_name(ledger: Ledger):
    for name in ("b", "c", "a"):
        ledger.deploy([version(name)])

    assert [version("a"), version("b"), version("c")] == list(ledger.versions())


def test_a_deployed_version_takes_the_place_of_the_earlier_one(ledger: Ledger):
    ledger.deploy([version(content="1")])
    ledger.deploy([version(content="2", endpoint="/elsewhere")])

    assert [version(content="2", endpoint="/elsewhere")] == list(ledger.versions())


def test_an_earlier_version_stays_for_the_jobs_that_run_on_it(ledger: Ledger):
    ledger.deploy([version(content="1")])
    ledger.add_job(job(), SEGMENTS)
    ledger.deploy([version(content="2")])

    assert version(content="1") == ledger.version("api-1")
    assert job() == ledger.job(job().id)
    assert ledger.project_ids() == {"project-1", "project-2"}


def test_an_earlier_version_can_be_deployed_again(ledger: Ledger):
    for content, at_ns in (("1", 1), ("2", 2), ("1", 3)):
        ledger.deploy([version(content=content, deployed_at_ns=at_ns)])

    assert [version(content="1", deployed_at_ns=3)] == list(ledger.versions())


def test_apis_are_deployed_together(ledger: Ledger):
    ledger.deploy([version("b"), version("a")])

    assert [version("a"), version("b")] == list(ledger.versions())


def test_apis_that_are_deployed_together_can_swap_their_endpoints(ledger: Ledger):
    ledger.deploy([version("a", endpoint="/x"), version("b", endpoint="/y")])

    ledger.deploy([version("a", "2", endpoint="/y"), version("b", "2", endpoint="/x")])

    assert [("a", "/y"), ("b", "/x")] == [(each.api_name, each.endpoint) for each in ledger.versions()]


@pytest.mark.parametrize(
    "versions",
    [
        [version("a", "2"), version("b", "2", endpoint="/c")],
        [version("a", "2", endpoint="/new"), version("b", "2", endpoint="/new")],
    ],
)
def test_no_two_apis_ever_have_the_same_endpoint_and_all_are_deployed_or_none(ledger: Ledger, versions: list[Version]):
    before = [version("a"), version("b"), version("c")]
    ledger.deploy(before)

    with pytest.raises(ValueError, match="endpoint"):
        ledger.deploy(versions)

    assert before == list(ledger.versions())
    assert ledger.version("a-2") is None


def test_apis_may_share_a_project(ledger: Ledger):
    ledger.deploy([version("a", project_id="shared")])
    ledger.deploy([version("b", project_id="shared")])

    assert ledger.project_ids() == {"shared"}


def test_a_deleted_api_is_forgotten_with_its_versions_and_jobs(ledger: Ledger):
    with_job(ledger, JobStatus.RUNNING)
    ledger.deploy([version(content="2")])
    ledger.add_worker(record())
    ledger.charge_death(job().id, 3, cause="exited", out_of_memory=False)

    ledger.delete_api("api")

    test_an_empty_ledger_knows_nothing(ledger)
    assert ledger.version("api-2") is None


def test_deleting_an_api_leaves_the_others_alone(ledger: Ledger):
    with_job(ledger)
    ledger.deploy([version("other")])
    ledger.add_job(job(2, "other"), SEGMENTS)

    ledger.delete_api("api")
    ledger.delete_api("never deployed")

    assert [version("other")] == list(ledger.versions())
    assert [job(2, "other")] == list(ledger.jobs_in_progress())
    assert list(ledger.segments(job(2).id)) == SEGMENTS


def test_a_deleted_api_can_be_deployed_again(ledger: Ledger):
    with_job(ledger)
    ledger.delete_api("api")

    ledger.deploy([version()])
    ledger.add_job(job(), SEGMENTS[:1])

    assert list(ledger.segments(job().id)) == SEGMENTS[:1]


# Jobs


@pytest.mark.parametrize("config", [None, {}, {"a": {"b": [1.5, 2**70, None, "ä\x00"]}}])
def test_a_job_is_read_back_as_it_was_added(ledger: Ledger, config: Any):
    ledger.deploy([version()])

    ledger.add_job(job(config=config), SEGMENTS)

    assert job(config=config) == ledger.job(job().id)


def test_the_segments_of_a_job_are_given_in_order(ledger: Ledger):
    ledger.deploy([version()])
    segments = [SegmentRange(number=number, first=10 * number, count=10) for number in range(12)]

    ledger.add_job(job(), segments)

    assert segments == list(ledger.segments(job().id))


def test_the_jobs_of_an_api_are_given_newest_first(ledger: Ledger):
    for name in ("api", "other"):
        ledger.deploy([version(name)])
    for number, name in ((2, "api"), (1, "other"), (3, "api"), (0xF, "api"), (0x10, "api")):
        ledger.add_job(job(number, name), SEGMENTS)

    assert [job(2), job(3), job(0xF), job(0x10)] == list(ledger.jobs("api"))
    assert list(ledger.jobs("neither")) == []


def test_the_newest_job_id_is_that_which_sorts_first_of_all_apis(ledger: Ledger):
    for number, name in ((3, "api"), (2, "other"), (4, "api")):
        ledger.deploy([version(name)])
        ledger.add_job(job(number, name), SEGMENTS)

    assert job(2).id == ledger.newest_job_id()


@pytest.mark.parametrize("forget", ["job", "api"])
def test_the_newest_job_id_is_known_when_its_job_is_forgotten(ledger: Ledger, forget: str):
    with_ended(ledger, {3: 10, 2: 20})

    if forget == "job":
        ledger.delete_jobs([job(2).id])
        ledger.delete_jobs([job(3).id])
    else:
        ledger.delete_api("api")

    assert job(2).id == ledger.newest_job_id()


def with_ended(ledger: Ledger, ends: dict[int, int], api: str = "api", content: str = "1") -> None:
    """Add Jobs that have ended, and when."""
    ledger.deploy([version(api, content)])
    for number, at_ns in ends.items():
        ledger.add_job(job(number, api, content), SEGMENTS)
        ledger.move(job(number).id, JobStatus.ENQUEUE_FAILED, at_ns=at_ns, counts=COUNTS)


def test_the_newest_job_of_an_api_and_those_in_progress_are_found_among_others(ledger: Ledger):
    with_ended(ledger, {3: 10, 4: 20})
    with_ended(ledger, {1: 10}, api="other")
    ledger.add_job(job(2), SEGMENTS)
    ledger.add_job(job(5), SEGMENTS)

    newest = ledger.newest_job("api")

    assert job(2) == newest
    assert [2, 0, 0] == [ledger.count_in_progress(name) for name in ("api", "other", "neither")]


def test_the_jobs_of_an_api_that_ended_last_are_not_among_those_beyond(ledger: Ledger):
    with_ended(ledger, {4: 40, 3: 10, 2: 30, 1: 20})
    with_ended(ledger, {7: 1}, api="other")
    ledger.add_job(job(5), SEGMENTS)

    assert [job(1).id, job(3).id] == list(ledger.ended_jobs_beyond("api", 2, limit=9))
    assert [job(1).id] == list(ledger.ended_jobs_beyond("api", 2, limit=1))
    assert list(ledger.ended_jobs_beyond("api", 4, limit=9)) == []


def test_jobs_that_ended_before_an_instant_are_given_first_ended_first(ledger: Ledger):
    with_ended(ledger, {4: 40, 3: 10, 2: 30})
    with_ended(ledger, {1: 20}, api="other")
    ledger.add_job(job(5), SEGMENTS)

    assert [job(number).id for number in (3, 1, 2)] == list(ledger.jobs_ended_before(40, limit=9))
    assert [job(number).id for number in (3, 1)] == list(ledger.jobs_ended_before(40, limit=2))


def test_a_deleted_job_is_forgotten_with_all_that_was_written_of_it(ledger: Ledger):
    with_job(ledger, JobStatus.RUNNING)
    ledger.add_worker(record())
    ledger.charge_death(job().id, 3, cause="exited", out_of_memory=False)
    ended = ledger.move(job().id, JobStatus.WORKER_ERROR, at_ns=6, counts=COUNTS)

    ledger.delete_jobs([ended.id, "no such job"])
    ledger.delete_api("api")

    test_an_empty_ledger_knows_nothing(ledger)


def test_a_job_in_progress_is_never_deleted(ledger: Ledger):
    running = with_job(ledger, JobStatus.RUNNING)

    ledger.delete_jobs([running.id])

    assert running == ledger.job(running.id)
    assert list(ledger.segments(running.id)) == SEGMENTS


def test_a_version_is_forgotten_with_its_last_job_unless_it_is_deployed(ledger: Ledger):
    with_ended(ledger, {4: 10, 3: 20}, content="1")
    with_ended(ledger, {2: 30}, content="2")

    ledger.delete_jobs([job(4).id, job(2).id])
    first = ledger.project_ids()
    ledger.delete_jobs([job(3).id])

    assert [{"project-1", "project-2"}, {"project-2"}] == [first, ledger.project_ids()]
    assert [version(content="2")] == list(ledger.versions())


@pytest.mark.parametrize("status", list(JobStatus))
def test_a_job_is_in_progress_until_its_status_is_final(ledger: Ledger, status: JobStatus):
    moved = with_job(ledger, status)

    assert status == moved.status
    assert ([] if status.is_final else [moved]) == list(ledger.jobs_in_progress())


def test_jobs_in_progress_are_given_oldest_first(ledger: Ledger):
    for number, name in ((2, "api"), (1, "other"), (3, "api")):
        ledger.deploy([version(name)])
        ledger.add_job(job(number, name), SEGMENTS)

    assert [job(3), job(2), job(1, "other")] == list(ledger.jobs_in_progress())


# Keys of submissions


KEY = SubmissionKey.of("k", b"{}")


def test_a_job_is_found_by_its_key(ledger: Ledger):
    for name in ("api", "other"):
        ledger.deploy([version(name)])
    ledger.add_job(job(3), SEGMENTS)
    ledger.add_job(job(2), SEGMENTS, KEY)
    ledger.add_job(job(1, "other"), SEGMENTS, SubmissionKey.of("k", b"[]"))

    moved = ledger.move(job(2).id, JobStatus.RUNNING, at_ns=5)

    assert (moved, KEY) == ledger.keyed_job("api", "k")
    assert (job(1, "other"), SubmissionKey.of("k", b"[]")) == ledger.keyed_job("other", "k")
    assert [None, None] == [ledger.keyed_job("api", "K"), ledger.keyed_job("neither", "k")]


@pytest.mark.parametrize("body", [b"{}", b"[]"])
def test_a_key_is_of_one_job_of_an_api(ledger: Ledger, body: bytes):
    ledger.deploy([version()])
    ledger.add_job(job(2), SEGMENTS, KEY)

    with pytest.raises(ValueError, match=f"job {job(2).id} has this key"):
        ledger.add_job(job(1), SEGMENTS, SubmissionKey.of("k", body))

    assert (job(2), KEY) == ledger.keyed_job("api", "k")
    assert [job(2)] == list(ledger.jobs("api"))


@pytest.mark.parametrize("forget", ["job", "api"])
def test_a_key_is_forgotten_with_its_job_and_may_be_used_again(ledger: Ledger, forget: str):
    ledger.deploy([version()])
    ledger.add_job(job(2), SEGMENTS, KEY)
    ledger.move(job(2).id, JobStatus.ENQUEUE_FAILED, at_ns=5, counts=COUNTS)

    if forget == "job":
        ledger.delete_jobs([job(2).id])
    else:
        ledger.delete_api("api")
    found = ledger.keyed_job("api", "k")
    ledger.deploy([version()])
    ledger.add_job(job(1), SEGMENTS, KEY)

    assert found is None
    assert (job(1), KEY) == ledger.keyed_job("api", "k")


# Moves


def test_a_move_gives_the_job_as_it_is_now(ledger: Ledger):
    with_job(ledger)

    moved = ledger.move(job().id, JobStatus.RUNNING, at_ns=77)

    assert moved == replace(job(), status=JobStatus.RUNNING, started_at_ns=77)
    assert moved == ledger.job(job().id)


@pytest.mark.parametrize("status", FINAL)
def test_a_final_status_is_written_with_its_counts(ledger: Ledger, status: JobStatus):
    way = {JobStatus.STOPPED: JobStatus.STOPPING, JobStatus.ENQUEUE_FAILED: JobStatus.ENQUEUING}
    before = with_job(ledger, way.get(status, JobStatus.RUNNING))
    counts = Counts(succeeded=5, failed=1, in_queue=4)

    moved = ledger.move(job().id, status, at_ns=99, reason="why", counts=counts, busy_seconds=1.5)

    expected = replace(
        before, status=status, status_reason="why", ended_at_ns=99, final_counts=counts, busy_seconds=1.5
    )
    assert expected == moved
    assert expected == ledger.job(job().id)


def test_stopping_sets_neither_a_start_nor_an_end(ledger: Ledger):
    with_job(ledger)

    moved = ledger.move(job().id, JobStatus.STOPPING, at_ns=5)

    assert (moved.started_at_ns, moved.ended_at_ns, moved.final_counts) == (None, None, None)


def test_a_reason_stays_until_another_is_given(ledger: Ledger):
    with_job(ledger)
    ledger.move(job().id, JobStatus.RUNNING, at_ns=1, reason="first")

    kept = ledger.move(job().id, JobStatus.STOPPING, at_ns=2)
    changed = ledger.move(job().id, JobStatus.STOPPED, at_ns=3, reason="second", counts=COUNTS)

    assert (kept.status_reason, changed.status_reason) == ("first", "second")


@pytest.mark.parametrize(("status", "other"), ILLEGAL)
def test_a_move_that_is_not_in_the_table_is_refused_and_changes_nothing(
    ledger: Ledger, status: JobStatus, other: JobStatus
):
    before = with_job(ledger, status)

    with pytest.raises(ValueError, match=f"cannot move from {status} to {other}"):
        ledger.move(job().id, other, at_ns=9, reason="no", counts=COUNTS if other.is_final else None)

    assert before == ledger.job(job().id)


@pytest.mark.parametrize(
    ("status", "counts"),
    [(JobStatus.SUCCEEDED, None), (JobStatus.STOPPING, COUNTS)],
)
def test_counts_are_written_with_a_final_status_and_only_with_one(ledger: Ledger, status: JobStatus, counts: Any):
    before = with_job(ledger, JobStatus.RUNNING)

    with pytest.raises(ValueError, match="counts"):
        ledger.move(job().id, status, at_ns=9, counts=counts)

    assert before == ledger.job(job().id)


def test_a_job_that_is_not_there_cannot_be_moved(ledger: Ledger):
    with pytest.raises(ValueError, match="there is no job"):
        ledger.move(job().id, JobStatus.RUNNING, at_ns=1)


# The hook


def test_the_hook_is_started_at_most_once(ledger: Ledger):
    with_job(ledger, JobStatus.RUNNING)
    ledger.start_hook(job().id, "worker-1")

    for worker in ("worker-1", "worker-2"):
        with pytest.raises(ValueError, match="was started before"):
            ledger.start_hook(job().id, worker)

    found = ledger.job(job().id)
    assert found is not None
    assert found.hook_worker == "worker-1"


def test_a_hook_of_one_job_is_not_that_of_another(ledger: Ledger):
    with_job(ledger, JobStatus.RUNNING)
    ledger.add_job(job(2), SEGMENTS)
    ledger.start_hook(job().id, "worker-1")

    ledger.start_hook(job(2).id, "worker-2")

    assert ["worker-1", "worker-2"] == [each.hook_worker for each in ledger.jobs("api")]


# Workers


def test_the_workers_of_a_job_are_given_until_they_are_gone(ledger: Ledger):
    with_job(ledger)
    for worker in ("worker-1", "worker-2", "worker-3"):
        ledger.add_worker(record(worker))

    ledger.end_worker("worker-2")

    assert [record("worker-1"), record("worker-3")] == sorted(ledger.workers(job().id), key=lambda each: each.worker)


def test_the_workers_of_another_job_are_not_given(ledger: Ledger):
    with_job(ledger)
    ledger.add_job(job(2), SEGMENTS)

    ledger.add_worker(record("worker-1", job(2).id))

    assert list(ledger.workers(job().id)) == []
    assert [record("worker-1", job(2).id)] == list(ledger.workers(job(2).id))


def test_adding_and_ending_a_worker_may_be_repeated(ledger: Ledger):
    with_job(ledger)

    for _ in range(2):
        ledger.add_worker(record("worker-1"))
        ledger.add_worker(record("worker-2"))
    for _ in range(2):
        ledger.end_worker("worker-2")
    ledger.end_worker("never added")

    assert [record("worker-1")] == list(ledger.workers(job().id))


def test_a_worker_that_is_gone_does_not_come_back(ledger: Ledger):
    with_job(ledger)
    ledger.add_worker(record())
    ledger.end_worker(record().worker)

    ledger.add_worker(record())

    assert list(ledger.workers(job().id)) == []


# Deaths


def test_every_death_in_a_batch_is_charged_to_it(ledger: Ledger):
    with_job(ledger)

    accounts = [
        ledger.charge_death(job().id, 3, cause="exited with code 1", out_of_memory=False),
        ledger.charge_death(job().id, 3, cause="ran out of memory", out_of_memory=True),
        ledger.charge_death(job().id, 3, cause="exited with code 2", out_of_memory=False),
    ]

    assert accounts == [
        Death(batch=3, deaths=1, cause="exited with code 1", out_of_memory=False),
        Death(batch=3, deaths=2, cause="ran out of memory", out_of_memory=True),
        Death(batch=3, deaths=3, cause="exited with code 2", out_of_memory=False),
    ]


def test_the_accounts_of_a_job_are_given_by_batch(ledger: Ledger):
    with_job(ledger)
    ledger.add_job(job(2), SEGMENTS)
    for job_id, batch in ((job().id, 9), (job().id, 2), (job(2).id, 4), (job().id, 9)):
        ledger.charge_death(job_id, batch, cause="exited", out_of_memory=False)

    assert [(2, 1), (9, 2)] == [(death.batch, death.deaths) for death in ledger.deaths(job().id)]
    assert [(4, 1)] == [(death.batch, death.deaths) for death in ledger.deaths(job(2).id)]


# The file


def test_everything_is_there_when_the_file_is_opened_again(tmp_path: Path):
    memory, file = MemoryLedger(), SqliteLedger(tmp_path / "ledger.sqlite")
    for ledger in (memory, file):
        ledger.begin_epoch("boot")
        with_job(ledger, JobStatus.RUNNING)
        ledger.add_worker(record())
        ledger.charge_death(job().id, 3, cause="exited", out_of_memory=True)
        ledger.start_hook(job().id, "worker-1")
        ledger.add_job(job(2), SEGMENTS, KEY)
    file.close()

    file = SqliteLedger(tmp_path / "ledger.sqlite")

    assert everything(memory) == everything(file)
    assert file.begin_epoch("boot") == (2, False)
    file.close()


def test_what_was_written_survives_the_death_of_the_process(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    code = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from test_ledger import *
ledger = SqliteLedger(Path({str(path)!r}))
with_job(ledger, JobStatus.RUNNING)
ledger.add_worker(record())
os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False)

    ledger = SqliteLedger(path)

    assert -signal.SIGKILL == process.returncode
    assert [JobStatus.RUNNING] == [each.status for each in ledger.jobs_in_progress()]
    assert [record()] == list(ledger.workers(job().id))
    ledger.close()


def test_a_full_disk_is_told_as_such_and_changes_nothing(tmp_path: Path):
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.deploy([version()])
    ledger._db.execute("PRAGMA max_page_count = 1")  # no more than there are

    with pytest.raises(StorageFull, match="the operator's disk is full"):
        ledger.add_job(job(config={"large": "x" * 100_000}), SEGMENTS)

    assert ledger.jobs_in_progress() == []
    ledger.close()


LATER = {
    2: (
        *(f"DROP INDEX {index}" for index in ("jobs_by_version", "jobs_ended", "jobs_by_end", "workers_by_job")),
        "DROP TABLE forgotten",
        "CREATE INDEX workers_by_job ON workers (job_id) WHERE is_gone = 0",
    ),
    3: ("DROP TABLE submission_keys",),
}
"""What a file of each schema lacks of the next one."""


@pytest.mark.parametrize("written", LATER)
def test_a_file_of_an_earlier_schema_becomes_what_a_new_one_is(tmp_path: Path, written: int):
    paths = [tmp_path / "old.sqlite", tmp_path / "new.sqlite"]
    for path in paths:
        SqliteLedger(path).close()
    with closing(sqlite3.connect(paths[0])) as old:
        for statement in [each for number, lacking in LATER.items() if number >= written for each in lacking]:
            old.execute(statement)
        old.execute(f"PRAGMA user_version = {written}")

    SqliteLedger(paths[0]).close()

    assert schema(paths[1]) == schema(paths[0])


def schema(path: Path) -> set[tuple[str, str]]:
    """Give everything in a file, and how it was made."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {(name, "".join(sql.split())) for name, sql in rows}


def test_a_file_of_a_newer_version_is_refused_with_what_to_do(tmp_path: Path):
    SqliteLedger(tmp_path / "ledger.sqlite").close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("PRAGMA user_version = 1000")
    connection.close()

    with pytest.raises(StartRefused, match="was written by a newer version of cortex") as refused:
        SqliteLedger(tmp_path / "ledger.sqlite")

    assert refused.value.hint is not None


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path):
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database, but long enough to look at" * 100)

    with pytest.raises(StartRefused, match=r"ledger\.sqlite"):
        SqliteLedger(tmp_path / "ledger.sqlite")


def test_the_file_refuses_counts_that_do_not_add_up(tmp_path: Path):
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    before = with_job(ledger, JobStatus.RUNNING)

    with pytest.raises(sqlite3.IntegrityError):
        ledger.move(job().id, JobStatus.SUCCEEDED, at_ns=1, counts=Counts(succeeded=9))

    assert before == ledger.job(job().id)
    ledger.close()


# One story, two tellers

NAMES = ["a", "b", "c"]
CONTENTS = ["1", "2"]
KEY_NAMES = ["k", "l"]


def everything(ledger: Ledger) -> dict[str, Any]:
    """Give every answer that a ledger has."""
    jobs = [each for name in ["api", *NAMES] for each in ledger.jobs(name)]
    ids = [f"{name}-{content}" for name in ["api", *NAMES] for content in CONTENTS]
    return {
        "versions": list(ledger.versions()),
        "version": [ledger.version(api_id) for api_id in ids],
        "projects": ledger.project_ids(),
        "jobs": jobs,
        "job": [ledger.job(each.id) for each in jobs],
        "in progress": list(ledger.jobs_in_progress()),
        "newest of": [ledger.newest_job(name) for name in NAMES],
        "in progress of": [ledger.count_in_progress(name) for name in NAMES],
        "beyond": [list(ledger.ended_jobs_beyond(name, 1, limit=2)) for name in NAMES],
        "ended": list(ledger.jobs_ended_before(2**60, limit=3)),
        "newest": ledger.newest_job_id(),
        "segments": [list(ledger.segments(each.id)) for each in jobs],
        "workers": [list(ledger.workers(each.id)) for each in jobs],
        "deaths": [list(ledger.deaths(each.id)) for each in jobs],
        "keys": [ledger.keyed_job(name, key) for name in ["api", *NAMES] for key in KEY_NAMES],
    }


class TwoTellers(RuleBasedStateMachine):
    """Tells the same story to memory and to SQLite, and compares every answer."""

    jobs = Bundle("jobs")
    workers = Bundle("workers")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.memory, self.file = MemoryLedger(), SqliteLedger(self.path)
        self.number = 2**40
        self.clock = 0

    @property
    def path(self) -> Path:
        return Path(self.directory.name, "ledger.sqlite")

    def tell(self, say: Callable[[Ledger], Any]) -> Any:
        """Say it to both; they answer alike, or refuse alike."""
        answers = []
        for ledger in (self.memory, self.file):
            try:
                answers.append(say(ledger))
            except ValueError:
                answers.append(ValueError)
        assert answers[0] == answers[1]
        return answers[0]

    def teardown(self) -> None:
        self.file.close()
        self.directory.cleanup()

    @invariant()
    def they_know_the_same(self) -> None:
        assert everything(self.memory) == everything(self.file)

    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = SqliteLedger(self.path)

    @rule(boot_id=st.sampled_from(["x", "y"]))
    def begin_epoch(self, boot_id: str) -> None:
        self.tell(lambda ledger: ledger.begin_epoch(boot_id))

    @rule(contents=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(CONTENTS), min_size=1))
    def deploy(self, contents: dict[str, str]) -> None:
        """Deploy some of the APIs together; in its second version, each wants the endpoint of the next one's first."""
        self.clock += 1
        following = dict(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))
        deployed = [
            version(
                name,
                content,
                endpoint=f"/{name if content == '1' else following[name]}",
                deployed_at_ns=self.clock,
            )
            for name, content in contents.items()
        ]
        self.tell(lambda ledger: ledger.deploy(deployed))

    @rule(name=st.sampled_from(NAMES))
    def delete_api(self, name: str) -> None:
        self.tell(lambda ledger: ledger.delete_api(name))

    @precondition(lambda self: self.memory.versions())
    @rule(
        target=jobs,
        data=st.data(),
        config=st.none() | st.dictionaries(st.text(), st.integers() | st.text()),
        key=st.none() | st.builds(SubmissionKey.of, st.sampled_from(KEY_NAMES), st.sampled_from([b"", b"{}"])),
    )
    def add_job(self, data: st.DataObject, config: Any, key: SubmissionKey | None) -> str:
        self.number += data.draw(st.sampled_from([-1, -1, 1])) * data.draw(st.integers(1, 2**16))
        of = data.draw(st.sampled_from(list(self.memory.versions())))
        added = job(self.number, of.api_name, config=config, api_id=of.api_id)
        if self.memory.job(added.id) is None:
            self.tell(lambda ledger: ledger.add_job(added, SEGMENTS, key))
        return added.id

    @rule(job_id=jobs, status=st.sampled_from(JobStatus), reason=st.none() | st.text(), failed=st.integers(0, 5))
    def move(self, job_id: str, status: JobStatus, reason: str | None, failed: int) -> None:
        self.clock += 1
        counts = Counts(succeeded=5, failed=failed, in_queue=5 - failed) if status.is_final else None
        busy = failed / 3 if status.is_final else 0.0
        self.tell(
            lambda ledger: ledger.move(
                job_id, status, at_ns=self.clock, reason=reason, counts=counts, busy_seconds=busy
            )
        )

    @rule(job_ids=st.lists(jobs, max_size=3))
    def delete_jobs(self, job_ids: list[str]) -> None:
        self.tell(lambda ledger: ledger.delete_jobs(job_ids))

    @rule(job_id=jobs, worker=st.sampled_from(["v", "w"]))
    def start_hook(self, job_id: str, worker: str) -> None:
        if self.memory.job(job_id) is not None:
            self.tell(lambda ledger: ledger.start_hook(job_id, worker))

    @rule(target=workers, job_id=jobs, number=st.integers(0, 3), pid=st.integers(1, 2**22))
    def add_worker(self, job_id: str, number: int, pid: int) -> str:
        added = record(f"{job_id}-{number}", job_id, pid=pid, process_started_at=pid / 7)
        if self.memory.job(job_id) is not None:
            self.tell(lambda ledger: ledger.add_worker(added))
        return added.worker

    @rule(worker=workers | consumes(workers))
    def end_worker(self, worker: str) -> None:
        self.tell(lambda ledger: ledger.end_worker(worker))

    @rule(job_id=jobs, batch=st.integers(0, 2), cause=st.text(), oom=st.booleans())
    def charge_death(self, job_id: str, batch: int, cause: str, oom: bool) -> None:
        if self.memory.job(job_id) is not None:
            self.tell(lambda ledger: ledger.charge_death(job_id, batch, cause=cause, out_of_memory=oom))


TestTwoTellers = TwoTellers.TestCase
TestTwoTellers.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
