"""Every promise of the ledger, of everything that keeps it."""

import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from cortex.domain.errors import StartRefused, StorageFull
from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import MOVES, Counts, Job, JobStatus, SegmentRange
from cortex.domain.output import Output, OutputFormat
from cortex.domain.policy import MaxFailures, OnFailedBatch, Policy, Retries
from cortex.domain.source import FileSource, SourceKind
from cortex.domain.submission_key import SubmissionKey
from cortex.storage.ledger import Ledger, Version, WorkerRecord
from cortex.storage.memory import MemoryLedger
from cortex.storage.sqlite import SqliteLedger
from cortex.storage.upgrades import SCHEMA_VERSION
from earlier_schemas import EARLIER, write_ledger

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
COUNTS = Counts(succeeded=7, failed=3, succeeded_items=68, failed_items=27)
WHOLE = Part(0, 10)


def with_job(ledger: Ledger, status: JobStatus = JobStatus.ENQUEUING) -> Job:
    """Give a Job of a deployed API that has come to this status."""
    ledger.deploy([version()])
    ledger.add_job(job(), SEGMENTS)
    way = {
        JobStatus.ENQUEUING: [],
        JobStatus.ENQUEUE_FAILED: [JobStatus.ENQUEUE_FAILED],
        JobStatus.RUNNING: [JobStatus.RUNNING],
        JobStatus.STOPPED: [JobStatus.STOPPING, JobStatus.STOPPED],
        JobStatus.TIMED_OUT: [JobStatus.STOPPING, JobStatus.TIMED_OUT],
        JobStatus.STOPPING: [JobStatus.STOPPING],
    }.get(status, [JobStatus.RUNNING, status])
    for step in way:
        move(ledger, step, at_ns=5)
    found = ledger.job(job().id)
    assert found is not None
    return found


def move(ledger: Ledger, status: JobStatus, *, at_ns: int, reason: str | None = None) -> Job:
    """Move the Job to a status, with what is written with it."""
    ending = JobStatus.STOPPED if status is JobStatus.STOPPING else None
    counts = COUNTS if status.is_final else None
    return ledger.move(job().id, status, at_ns=at_ns, reason=reason, ending=ending, counts=counts)


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
    ending = JobStatus.STOPPED if status is JobStatus.STOPPING else None
    ledger.move(job().id, status, at_ns=5, ending=ending, counts=Counts() if status.is_final else None)

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


def test_the_run_of_the_machine_is_known_in_which_the_last_epoch_began(ledger: Ledger):
    known = [ledger.boot_id()]
    for boot_id in ("a", "a", "b"):
        ledger.begin_epoch(boot_id)
        known.append(ledger.boot_id())

    assert [None, "a", "a", "b"] == known


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
    assert list(ledger.unsynced()) == []


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
    ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.DIED, cause="exited")

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


@pytest.mark.parametrize(
    "asked",
    [
        {"policy": Policy(retries=Retries(attempts=3, backoff_seconds=0.5, no_retry=("ValueError", "a.B")))},
        {"policy": Policy(max_failures=MaxFailures(percent=2.5), on_failed_batch=OnFailedBatch.ISOLATE)},
        {"policy": Policy(max_failures=MaxFailures(count=0), timeout_seconds=7.0, batch_timeout_seconds=0.25)},
        {"output": Output(path="s3://b/ä", format=OutputFormat.PARQUET, include_input=True)},
        {"rerun_of": job(3).id, "origin": job(4).id},
        {"workers_min": 1},
    ],
)
def test_a_job_keeps_what_was_asked_for_it(ledger: Ledger, asked: dict[str, Any]):
    ledger.deploy([version()])

    ledger.add_job(job(**asked), SEGMENTS)

    assert job(**asked) == ledger.job(job().id)


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
    ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.DIED, cause="exited")
    ended = ledger.move(job().id, JobStatus.WORKER_ERROR, at_ns=6, counts=COUNTS, files={"states": b"1"})

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


def test_a_job_that_has_all_its_batches_may_be_added_as_running(ledger: Ledger):
    added = job(status=JobStatus.RUNNING, started_at_ns=77)
    ledger.deploy([version()])

    ledger.add_job(added, SEGMENTS)
    moved = ledger.move(added.id, JobStatus.PAUSED, at_ns=78)

    assert replace(added, status=JobStatus.PAUSED) == moved
    assert moved == ledger.job(added.id)


@pytest.mark.parametrize("status", FINAL)
def test_a_final_status_is_written_with_its_counts(ledger: Ledger, status: JobStatus):
    before = with_job(ledger, next(each for each in JobStatus if status in MOVES[each]))
    counts = Counts(succeeded=5, failed=1, in_queue=4, succeeded_items=47, failed_items=13)

    moved = ledger.move(job().id, status, at_ns=99, reason="why", counts=counts, busy_seconds=1.5)

    expected = replace(
        before, status=status, status_reason="why", ended_at_ns=99, final_counts=counts, busy_seconds=1.5
    )
    assert expected == moved
    assert expected == ledger.job(job().id)


def test_stopping_sets_neither_a_start_nor_an_end(ledger: Ledger):
    with_job(ledger)

    moved = move(ledger, JobStatus.STOPPING, at_ns=5)

    assert (moved.started_at_ns, moved.ended_at_ns, moved.final_counts) == (None, None, None)


def test_a_reason_stays_until_another_is_given(ledger: Ledger):
    with_job(ledger)
    ledger.move(job().id, JobStatus.RUNNING, at_ns=1, reason="first")

    kept = move(ledger, JobStatus.STOPPING, at_ns=2)
    changed = move(ledger, JobStatus.STOPPED, at_ns=3, reason="second")

    assert (kept.status_reason, changed.status_reason) == ("first", "second")


@pytest.mark.parametrize(("status", "other"), ILLEGAL)
def test_a_move_that_is_not_in_the_table_is_refused_and_changes_nothing(
    ledger: Ledger, status: JobStatus, other: JobStatus
):
    before = with_job(ledger, status)

    with pytest.raises(ValueError, match=f"cannot move from {status} to {other}"):
        move(ledger, other, at_ns=9, reason="no")

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


@pytest.mark.parametrize("ending", [JobStatus.STOPPED, JobStatus.TIMED_OUT])
def test_stopping_says_what_the_job_will_be_until_it_is(ledger: Ledger, ending: JobStatus):
    with_job(ledger, JobStatus.RUNNING)

    stopping = ledger.move(job().id, JobStatus.STOPPING, at_ns=9, ending=ending)
    ended = ledger.move(job().id, ending, at_ns=10, counts=COUNTS)

    assert [ending, ending] == [stopping.ending, ended.ending]
    assert ended == ledger.job(job().id)


@pytest.mark.parametrize(
    ("status", "ending"),
    [
        (JobStatus.STOPPING, None),
        (JobStatus.STOPPING, JobStatus.SUCCEEDED),
        (JobStatus.STOPPING, JobStatus.RUNNING),
        (JobStatus.PAUSED, JobStatus.STOPPED),
    ],
)
def test_where_it_leads_to_is_written_with_stopping_and_only_there(
    ledger: Ledger, status: JobStatus, ending: JobStatus | None
):
    before = with_job(ledger, JobStatus.RUNNING)

    with pytest.raises(ValueError, match="where it leads to"):
        ledger.move(job().id, status, at_ns=9, ending=ending)

    assert before == ledger.job(job().id)


def test_a_job_that_goes_on_after_a_pause_has_started_only_once(ledger: Ledger):
    before = with_job(ledger, JobStatus.RUNNING)
    ledger.move(job().id, JobStatus.PAUSED, at_ns=8, reason="a pause")

    resumed = ledger.move(job().id, JobStatus.RUNNING, at_ns=9)

    assert replace(before, status_reason="a pause") == resumed


def test_a_job_that_is_not_there_cannot_be_moved(ledger: Ledger):
    with pytest.raises(ValueError, match="there is no job"):
        ledger.move(job().id, JobStatus.RUNNING, at_ns=1)


# Files that are not synced


def test_the_files_of_jobs_are_given_in_the_order_in_which_they_were_written_down(ledger: Ledger):
    ledger.deploy([version()])
    ledger.add_job(job(2), SEGMENTS, None, (), {"b": b"", "a": b"\0\xff"})
    ledger.add_job(job(1), SEGMENTS, None, (), {"a": b"of 1"})
    ledger.move(job(2).id, JobStatus.RUNNING, at_ns=1, files={"a": b"of 2, later"})

    assert [
        ((job(2).id, "b"), b""),
        ((job(2).id, "a"), b"\0\xff"),
        ((job(1).id, "a"), b"of 1"),
        ((job(2).id, "a"), b"of 2, later"),
    ] == unsynced(ledger)
    numbers = [file.number for file in ledger.unsynced()]
    assert sorted(set(numbers)) == numbers


def test_files_that_are_on_the_disk_are_forgotten_and_those_that_came_after_them_are_not(ledger: Ledger):
    ledger.deploy([version()])
    ledger.add_job(job(2), SEGMENTS, None, (), {"a": b"1", "b": b"2"})
    synced = ledger.unsynced()
    ledger.move(job(2).id, JobStatus.RUNNING, at_ns=1, files={"a": b"3"})
    ledger.move(job(2).id, JobStatus.SUCCEEDED, at_ns=2, counts=COUNTS)
    ledger.delete_jobs([job(2).id])  # with what had the highest number
    ledger.add_job(job(1), SEGMENTS, None, (), {"a": b"4"})

    ledger.forget_unsynced(synced[-1].number)

    assert [((job(1).id, "a"), b"4")] == unsynced(ledger)
    assert [b""] * 2 == [ledger.unsynced_bytes(file) for file in synced]


def test_a_job_that_is_not_added_or_moved_leaves_no_files(ledger: Ledger):
    ledger.deploy([version()])
    ledger.add_job(job(2), SEGMENTS, KEY)

    with pytest.raises(ValueError, match="has this key"):
        ledger.add_job(job(1), SEGMENTS, KEY, (), {"a": b"1"})
    with pytest.raises(ValueError, match="cannot move"):
        ledger.move(job(2).id, JobStatus.PAUSED, at_ns=1, files={"a": b"1"})

    assert unsynced(ledger) == []


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
        ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.DIED, cause="exited with code 1"),
        ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.OUT_OF_MEMORY, cause="ran out of memory"),
        ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.TIMED_OUT, cause="took too long"),
        ledger.charge_death(job().id, 3, WHOLE, kind=DeathKind.DIED, cause="exited with code 2"),
    ]

    assert accounts == [
        death(3, WHOLE, (1, 0), DeathKind.DIED, "exited with code 1"),
        death(3, WHOLE, (2, 0), DeathKind.OUT_OF_MEMORY, "ran out of memory"),
        death(3, WHOLE, (2, 1), DeathKind.TIMED_OUT, "took too long"),
        death(3, WHOLE, (3, 1), DeathKind.DIED, "exited with code 2"),
    ]
    assert accounts[-1:] == list(ledger.deaths(job().id))


def death(batch: int, part: Part, times: tuple[int, int], kind: DeathKind = DeathKind.DIED, cause: str = "") -> Death:
    """Give an account of so many deaths and timeouts."""
    return Death(batch=batch, part=part, deaths=times[0], timeouts=times[1], cause=cause, kind=kind)


def test_the_accounts_of_a_job_are_given_by_batch_and_part(ledger: Ledger):
    with_job(ledger)
    ledger.add_job(job(2), SEGMENTS)
    charges = [(1, 9, WHOLE), (1, 2, Part(5, 10)), (2, 4, WHOLE), (1, 9, WHOLE), (1, 2, WHOLE), (1, 2, Part(0, 5))]
    for number, batch, part in charges:
        ledger.charge_death(job(number).id, batch, part, kind=DeathKind.DIED, cause="")

    expected = [(2, Part(0, 5), (1, 0)), (2, WHOLE, (1, 0)), (2, Part(5, 10), (1, 0)), (9, WHOLE, (2, 0))]
    assert [death(*each) for each in expected] == list(ledger.deaths(job().id))
    assert [death(4, WHOLE, (1, 0))] == list(ledger.deaths(job(2).id))


def test_a_rerun_takes_over_the_accounts_of_the_earlier_job(ledger: Ledger):
    with_job(ledger)
    ledger.charge_death(job().id, 3, Part(5, 10), kind=DeathKind.OUT_OF_MEMORY, cause="ran out of memory")
    ledger.charge_death(job().id, 3, Part(5, 10), kind=DeathKind.TIMED_OUT, cause="took too long")
    earlier = list(ledger.deaths(job().id))

    ledger.add_job(job(2, rerun_of=job().id), SEGMENTS, None, earlier)

    assert earlier == list(ledger.deaths(job(2).id))
    further = ledger.charge_death(job(2).id, 3, Part(5, 10), kind=DeathKind.DIED, cause="exited with code 1")
    assert death(3, Part(5, 10), (2, 1), DeathKind.DIED, "exited with code 1") == further
    assert earlier == list(ledger.deaths(job().id))


# The file


def test_everything_is_there_when_the_file_is_opened_again(tmp_path: Path):
    memory, file = MemoryLedger(), SqliteLedger(tmp_path / "ledger.sqlite")
    for ledger in (memory, file):
        ledger.begin_epoch("boot")
        with_job(ledger, JobStatus.RUNNING)
        ledger.add_worker(record())
        ledger.charge_death(job().id, 3, Part(5, 10), kind=DeathKind.OUT_OF_MEMORY, cause="exited")
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


def test_each_commit_is_told_just_before_and_just_after_it(tmp_path: Path):
    told: list[tuple[str, int]] = []
    path = tmp_path / "ledger.sqlite"

    def observe(boundary: str) -> None:
        with closing(sqlite3.connect(path)) as other:
            made = other.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'apis'").fetchone()[0]
            told.append((boundary, other.execute("SELECT count(*) FROM apis").fetchone()[0] if made else 0))

    ledger = SqliteLedger(path, observe=observe)
    ledger.deploy([version("a"), version("b")])
    with pytest.raises(ValueError, match="endpoint"):
        ledger.deploy([version("c", endpoint="/a")])
    ledger.close()

    assert [("before make_schema", 0), ("after make_schema", 0), ("before deploy", 0), ("after deploy", 2)] == told


SYNCED = 2
"""PRAGMA synchronous = FULL: the commit is on the disk when it returns."""


def test_a_commit_is_synced_where_its_promise_says_durable_and_nowhere_else(tmp_path: Path):
    told: dict[str, set[bool]] = {}

    def observe(boundary: str) -> None:
        if boundary.startswith("before") and ledger is not None:
            is_synced = ledger._db.execute("PRAGMA synchronous").fetchone()[0] == SYNCED
            told.setdefault(boundary.removeprefix("before "), set()).add(is_synced)

    ledger: SqliteLedger | None = None
    ledger = SqliteLedger(tmp_path / "ledger.sqlite", observe=observe)
    ledger.begin_epoch("boot")
    with_ended(ledger, {1: 1})
    ledger.add_worker(record(job_id=job(1).id))
    ledger.charge_death(job(1).id, 0, WHOLE, kind=DeathKind.DIED, cause="", worker="worker-1")
    ledger.end_worker("worker-1")
    ledger.start_hook(job(1).id, "worker-1")
    ledger.forget_unsynced(9)
    ledger.add_job(job(2, source=SOURCE, item_count=0, total_batch_count=0), [])
    ledger.publish(job(2).id, SEGMENTS[0], item_count=1, cursor={})
    ledger.delete_jobs([job(1).id])
    ledger.delete_api("api")
    ledger.close()

    not_synced = {"publish", "add_worker", "end_worker", "charge_death", "forget_unsynced"}
    assert {name: {name not in not_synced} for name in told} == told
    assert not_synced < told.keys()


def test_a_full_disk_is_told_as_such_and_changes_nothing(tmp_path: Path):
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.deploy([version()])
    ledger._db.execute("PRAGMA max_page_count = 1")  # no more than there are

    with pytest.raises(StorageFull, match="the operator's disk is full"):
        ledger.add_job(job(config={"large": "x" * 100_000}), SEGMENTS)

    assert ledger.jobs_in_progress() == []
    ledger.close()


def test_there_is_a_file_of_every_earlier_schema():
    assert list(range(1, SCHEMA_VERSION)) == sorted(EARLIER)


@pytest.mark.parametrize("number", EARLIER)
def test_a_file_of_an_earlier_schema_becomes_what_a_new_one_is(tmp_path: Path, number: int):
    write_ledger(number, tmp_path / "old.sqlite")

    for name in ("old", "new"):
        SqliteLedger(tmp_path / f"{name}.sqlite").close()

    assert schema(tmp_path / "new.sqlite") == schema(tmp_path / "old.sqlite")


def schema(path: Path) -> dict[str, set[str]]:
    """Give everything in a file and what it is made of: a column that was added stands in another place."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
        return {name: set(pieces(sql)) for name, sql in rows}


def pieces(sql: str) -> Iterator[str]:
    """Give the definitions within a CREATE statement, and what stands around them."""
    bare = "".join(re.sub(r"--.*", "", sql).split())
    before, _, rest = bare.partition("(")
    inside, _, after = rest.rpartition(")")
    yield f"{before}(){after}"
    depth, piece = 0, ""
    for letter in f"{inside},":
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            yield piece
            piece = ""
        else:
            piece += letter


def test_the_rows_of_an_earlier_schema_become_what_they_mean_in_this_one(tmp_path: Path):
    write_ledger(4, tmp_path / "ledger.sqlite")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as db:
        db.execute("INSERT INTO versions VALUES ('api-1', 'api', 'BatchAPI', '/api', '{}', 'project', 1)")
        columns = "id, api_name, api_id, workers, batch_size, item_count, total_batch_count, created_at_ns, status"
        columns += ", ended_at_ns, succeeded, failed, in_queue"
        for number, *columns_of_its_own in (
            (1, "status_running", None, None, None, None),
            (2, "status_stopping", None, None, None, None),
            (3, "status_stopped", 9, 6, 3, 1),
        ):
            row = (job(number).id, "api", "api-1", 2, 10, 95, 10, number, *columns_of_its_own)
            db.execute(f"INSERT INTO jobs ({columns}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        for batch, deaths, out_of_memory in ((4, 2, 0), (9, 1, 1)):
            row = (job(1).id, batch, deaths, "exited", out_of_memory)
            db.execute("INSERT INTO deaths VALUES (?, ?, ?, ?, ?)", row)

    with closing(SqliteLedger(tmp_path / "ledger.sqlite")) as ledger:
        running, stopping, stopped = (ledger.job(job(number).id) for number in (1, 2, 3))
        deaths = list(ledger.deaths(job(1).id))

    assert running is not None
    assert stopping is not None
    assert stopped is not None
    assert [None, JobStatus.STOPPED] == [running.ending, stopping.ending]
    assert (Policy(), None, job(1).id) == (running.policy, running.output, running.names_batches)
    assert Counts(succeeded=6, failed=3, in_queue=1, succeeded_items=60, failed_items=30) == stopped.final_counts
    assert [
        death(4, WHOLE, (2, 0), DeathKind.DIED, "exited"),
        death(9, Part(0, 5), (1, 0), DeathKind.OUT_OF_MEMORY, "exited"),
    ] == deaths


@pytest.mark.parametrize("boundary", ["before make_schema", "after make_schema"])
@pytest.mark.parametrize("number", [0, *EARLIER])
def test_an_upgrade_that_is_cut_off_is_made_another_time(tmp_path: Path, number: int, boundary: str):
    path = tmp_path / "ledger.sqlite"
    if number:
        write_ledger(number, path)
    code = f"""
import os, signal
from pathlib import Path
from cortex.storage.sqlite import SqliteLedger
def observe(boundary):
    if boundary == {boundary!r}:
        os.kill(os.getpid(), signal.SIGKILL)
SqliteLedger(Path({str(path)!r}), observe=observe)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False)

    for name in ("ledger", "new"):
        SqliteLedger(tmp_path / f"{name}.sqlite").close()

    assert -signal.SIGKILL == process.returncode
    assert schema(tmp_path / "new.sqlite") == schema(path)


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
NO_JOB = "f" * 16

POLICIES = st.builds(
    Policy,
    retries=st.builds(
        Retries, attempts=st.integers(1, 5), backoff_seconds=st.floats(0, 9), no_retry=st.tuples(st.text())
    ),
    timeout_seconds=st.none() | st.floats(0, 9),
    max_failures=st.none()
    | st.builds(MaxFailures, count=st.integers(0, 9))
    | st.builds(MaxFailures, percent=st.floats(0, 100)),
    on_failed_batch=st.sampled_from(OnFailedBatch),
)
OUTPUTS = st.builds(Output, path=st.text(), format=st.sampled_from(OutputFormat), include_input=st.booleans())
SOURCES = st.builds(replace, st.just(SOURCE), paths=st.tuples(st.text()), includes=st.tuples(st.text()))
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "config": st.dictionaries(st.text(), st.integers() | st.text()),
        "policy": POLICIES,
        "output": OUTPUTS,
        "rerun_of": st.just(NO_JOB),
        "origin": st.just(NO_JOB),
    },
)
FILES = st.dictionaries(st.sampled_from(["a", "b"]), st.binary(max_size=3), max_size=2)
KEYS = st.none() | st.builds(SubmissionKey.of, st.sampled_from(KEY_NAMES), st.sampled_from([b"", b"{}"]))


def everything(ledger: Ledger) -> dict[str, Any]:
    """Give every answer that a ledger has."""
    jobs = [each for name in ["api", *NAMES] for each in ledger.jobs(name)]
    ids = [f"{name}-{content}" for name in ["api", *NAMES] for content in CONTENTS]
    return {
        "versions": list(ledger.versions()),
        "version": [ledger.version(api_id) for api_id in ids],
        "projects": ledger.project_ids(),
        "needed": list(ledger.needed_versions()),
        "needed without jobs": list(ledger.needed_versions(without_jobs=[each.id for each in jobs[:2]])),
        "jobs": jobs,
        "job": [ledger.job(each.id) for each in jobs],
        "in progress": list(ledger.jobs_in_progress()),
        "newest of": [ledger.newest_job(name) for name in NAMES],
        "in progress of": [ledger.count_in_progress(name) for name in NAMES],
        "beyond": [list(ledger.ended_jobs_beyond(name, 1, limit=2)) for name in NAMES],
        "ended": list(ledger.jobs_ended_before(2**60, limit=3)),
        "newest": ledger.newest_job_id(),
        "segments": [list(ledger.segments(each.id)) for each in jobs],
        "cursors": [ledger.cursor(each.id) for each in jobs],
        "workers": [list(ledger.workers(each.id)) for each in jobs],
        "deaths": [list(ledger.deaths(each.id)) for each in jobs],
        "unsynced": [(*each, content) for each, content in unsynced(ledger)],
        "keys": [ledger.keyed_job(name, key) for name in ["api", *NAMES] for key in KEY_NAMES],
    }


def unsynced(ledger: Ledger) -> list[tuple[tuple[str, str], bytes]]:
    """Give job, name and bytes of every file that may not be on the disk; how they are numbered is the ledger's own."""
    return [((file.job_id, file.name), ledger.unsynced_bytes(file)) for file in ledger.unsynced()]


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
        self.known = everything(self.memory)

    @property
    def path(self) -> Path:
        return Path(self.directory.name, "ledger.sqlite")

    def tell(self, say: Callable[[Ledger], Any]) -> Any:
        """Say it to both; they answer alike, or refuse alike, and then nothing has changed."""
        answers = []
        for ledger in (self.memory, self.file):
            try:
                answers.append(say(ledger))
            except ValueError as refusal:
                answers.append(str(refusal))
                assert self.known == everything(ledger)
        assert answers[0] == answers[1]
        return answers[0]

    def teardown(self) -> None:
        self.file.close()
        self.directory.cleanup()

    @invariant()
    def they_know_the_same(self) -> None:
        self.known = everything(self.memory)
        assert self.known == everything(self.file)

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
    @rule(target=jobs, data=st.data(), asked=ASKED, key=KEYS)
    def add_job(self, data: st.DataObject, asked: dict[str, Any], key: SubmissionKey | None) -> str:
        self.add(data, job(self.next_number(data), **asked), SEGMENTS, key)
        return f"{self.number:016x}"

    @precondition(lambda self: self.memory.versions())
    @rule(target=jobs, data=st.data(), earlier=jobs)
    def rerun(self, data: st.DataObject, earlier: str) -> str:
        deaths = list(self.memory.deaths(earlier))
        self.add(data, job(self.next_number(data), rerun_of=earlier, origin=earlier), SEGMENTS, None, deaths)
        return f"{self.number:016x}"

    @precondition(lambda self: self.memory.versions())
    @rule(target=jobs, data=st.data(), asked=ASKED, key=KEYS, source=SOURCES)
    def add_job_over_files(
        self, data: st.DataObject, asked: dict[str, Any], key: SubmissionKey | None, source: FileSource
    ) -> str:
        added = job(self.next_number(data), **asked, source=source, item_count=0, total_batch_count=0)
        self.add(data, added, [], key)
        return added.id

    def next_number(self, data: st.DataObject) -> int:
        """Give the number of a Job that is newer than all others, or older than the last one: a clock set back."""
        self.number += data.draw(st.sampled_from([-1, -1, 1])) * data.draw(st.integers(1, 2**16))
        return self.number

    def add(
        self,
        data: st.DataObject,
        added: Job,
        segments: list[SegmentRange],
        key: SubmissionKey | None,
        deaths: Sequence[Death] = (),
    ) -> None:
        """Add a Job of a deployed version."""
        of = data.draw(st.sampled_from(list(self.memory.versions())))
        added = replace(added, api_name=of.api_name, api_id=of.api_id)
        if self.memory.job(added.id) is None:
            files = data.draw(FILES)
            self.tell(lambda ledger: ledger.add_job(added, segments, key, deaths, files))

    @rule(job_id=jobs | st.just(NO_JOB), skipped=st.sampled_from([0, 0, 0, 1]), count=st.integers(1, 3))
    def publish(self, job_id: str, skipped: int, count: int) -> None:
        """Publish the next Segment; sometimes one that cannot be the next."""
        present = self.memory.segments(job_id)
        segment = SegmentRange(number=len(present), first=(present[-1].end if present else 0) + skipped, count=count)
        self.tell(lambda ledger: ledger.publish(job_id, segment, item_count=10 * count, cursor={"of": count}))

    @rule(
        job_id=jobs | st.just(NO_JOB),
        status=st.sampled_from(JobStatus),
        reason=st.none() | st.text(),
        data=st.data(),
        has_its_counts=st.sampled_from([True, True, True, False]),
    )
    def move(
        self, job_id: str, status: JobStatus, reason: str | None, data: st.DataObject, *, has_its_counts: bool
    ) -> None:
        """Move a Job to any status, mostly with what is written with it."""
        self.clock += 1
        endings = st.sampled_from([JobStatus.STOPPED, JobStatus.TIMED_OUT, None, JobStatus.SUCCEEDED])
        ending = data.draw(endings) if status is JobStatus.STOPPING else None
        counts, busy_seconds = None, 0.0
        if status.is_final is has_its_counts:
            found = self.memory.job(job_id)
            total = found.total_batch_count if found else 0
            failed = data.draw(st.integers(0, total))
            counts = Counts(succeeded=total - failed, failed=failed, succeeded_items=total, failed_items=9 * failed)
            busy_seconds = failed / 3
        files = data.draw(FILES)
        self.tell(
            lambda ledger: ledger.move(
                job_id,
                status,
                at_ns=self.clock,
                reason=reason,
                ending=ending,
                counts=counts,
                busy_seconds=busy_seconds,
                files=files,
            )
        )

    @rule(share=st.floats(0, 1))
    def forget_unsynced(self, share: float) -> None:
        """Forget some of the files that were written down first."""

        def forget(ledger: Ledger) -> None:
            files = ledger.unsynced()
            if files:
                ledger.forget_unsynced(files[int(share * (len(files) - 1))].number)

        self.tell(forget)

    @rule(job_id=jobs)
    def run_pause_and_resume(self, job_id: str) -> None:
        for status in (JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.RUNNING):
            self.they_know_the_same()
            self.clock += 1
            self.tell(lambda ledger, status=status: ledger.move(job_id, status, at_ns=self.clock))

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

    @rule(
        job_id=jobs,
        batch=st.integers(0, 1),
        part=st.sampled_from([WHOLE, Part(5, 10)]),
        kinds=st.lists(st.sampled_from(DeathKind), min_size=1, max_size=3),
        cause=st.text(),
    )
    def charge_deaths(self, job_id: str, batch: int, part: Part, kinds: list[DeathKind], cause: str) -> None:
        for kind in kinds if self.memory.job(job_id) is not None else []:
            self.tell(lambda ledger, kind=kind: ledger.charge_death(job_id, batch, part, kind=kind, cause=cause))


TestTwoTellers = TwoTellers.TestCase
TestTwoTellers.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
