"""What `cortex get` draws, character by character."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from click import unstyle

from cortex.cli.views import api_view, apis_view, job_view
from cortex.clients.facts import job_line
from cortex.clients.times import format_age, format_duration, format_short_duration

NOW = datetime.fromisoformat("2020-07-20T01:11:10.5Z")
ENDPOINT = "http://127.0.0.1:8888/image-classifier"


def job(**changes: Any) -> Any:
    return {
        "job_id": "69d6faf82e4660d3",
        "api_name": "image-classifier",
        "workers": 1,
        "api_id": "v1",
        "status": "status_running",
        "total_batch_count": 3,
        "batch_metrics": {"succeeded": 0, "failed": 0},
        "worker_counts": {
            "pending": 0,
            "initializing": 1,
            "running": 0,
            "succeeded": 0,
            "failed": 0,
            "stalled": 0,
        },
        "created_time": "2020-07-20T01:07:40.000000001Z",
        "start_time": "2020-07-20T01:07:44.276007415Z",
    } | changes


def ended(**changes: Any) -> Any:
    over = job(
        status="status_succeeded",
        end_time="2020-07-20T01:08:26.9Z",
        batch_metrics={"succeeded": 3, "failed": 0, "avg_time_per_batch": 20.1234},
    )
    del over["worker_counts"]
    return over | changes


def api(*jobs: Any, **changes: Any) -> Any:
    return {
        "spec": {},
        "api_id": "v1",
        "endpoint": ENDPOINT,
        "last_updated": "2020-07-20T01:00:00Z",
        "environment": {"status": "none", "message": ""},
        "job_statuses": list(jobs),
    } | changes


def test_an_api_without_jobs_reads_as_in_the_tutorial() -> None:
    expected = """\
no submitted jobs

endpoint: http://127.0.0.1:8888/image-classifier"""

    assert expected == unstyle(api_view(api(), NOW))


def test_an_api_with_a_job_reads_as_in_the_tutorial() -> None:
    expected = """\
job id             status    progress   start time                 duration
69d6faf82e4660d3   running   0/3        20 Jul 2020 01:07:44 UTC   3m26s

endpoint: http://127.0.0.1:8888/image-classifier"""

    assert expected == unstyle(api_view(api(job()), NOW))


def test_failures_have_a_column_where_there_are_any() -> None:
    failed = ended(
        job_id="69d6f",
        status="status_completed_with_failures",
        batch_metrics={"succeeded": 2, "failed": 1, "avg_time_per_batch": 0.5},
    )
    expected = """\
job id             status                    progress   failed   start time                 duration
69d6faf82e4660d3   running                   0/3        0        20 Jul 2020 01:07:44 UTC   3m26s
69d6f              completed with failures   2/3        1        20 Jul 2020 01:07:44 UTC   42s

endpoint: http://127.0.0.1:8888/image-classifier"""

    assert expected == unstyle(api_view(api(job(), failed), NOW))


def test_an_environment_that_cannot_be_built_shows() -> None:
    environment = {"status": "failed", "message": "no version of `nosuch` was found\nadvice"}
    expected = """\
no submitted jobs

environment: failed
no version of `nosuch` was found
advice

endpoint: http://127.0.0.1:8888/image-classifier"""

    assert expected == unstyle(api_view(api(environment=environment), NOW))


def test_a_long_history_is_cut_but_jobs_in_progress_always_show() -> None:
    jobs = [ended(job_id=f"{number:016x}") for number in range(12)] + [job(job_id="f" * 16)]

    lines = unstyle(api_view(api(*jobs), NOW)).splitlines()

    assert [f"{number:016x}" for number in range(9)] == [line.split()[0] for line in lines[1:10]]
    assert lines[10].startswith("ffffffffffffffff   running")
    assert lines[11] == "... and 3 earlier (`-o json` shows all)"


def test_a_job_reads_as_in_the_tutorial() -> None:
    running = job(start_time="2020-07-27T15:02:25Z")
    now = datetime.fromisoformat("2020-07-27T15:03:07Z")
    expected = """\
job id: 69d6faf82e4660d3
status: running

start time: 27 Jul 2020 15:02:25 UTC
end time:   -
duration:   42s

batch stats
total   succeeded   failed   avg time per batch
3       0           0        -

worker stats
requested   initializing   running   failed   succeeded
1           1              0         0        0

job endpoint: http://127.0.0.1:8888/image-classifier/69d6faf82e4660d3"""

    assert expected == unstyle(job_view({"job_status": running, "endpoint": ENDPOINT}, now))


def test_a_job_that_ended_badly_says_why() -> None:
    over = ended(status="status_worker_error", status_reason="`__init__` raised KeyError: 'model'")
    expected = """\
job id: 69d6faf82e4660d3
status: worker error
reason: `__init__` raised KeyError: 'model'

start time: 20 Jul 2020 01:07:44 UTC
end time:   20 Jul 2020 01:08:26 UTC
duration:   42s

batch stats
total   succeeded   failed   avg time per batch
3       3           0        20.123s

worker stats are not available because this job is not currently running

job endpoint: E/69d6faf82e4660d3"""

    assert expected == unstyle(job_view({"job_status": over, "endpoint": "E"}, NOW))


def test_what_a_job_asks_for_is_shown_and_its_items_beside_the_batches_where_failing_ones_are_isolated() -> None:
    isolating = ended(
        status="status_completed_with_failures",
        rerun_of="69d6faf82e4660d4",
        retries={"attempts": 4, "backoff": 2.0, "max_backoff": 5.0, "no_retry": ["ValueError", "a.B"]},
        batch_timeout=30.0,
        timeout=5400.0,
        max_failures="5%",
        on_failed_batch="isolate",
        results={"path": "s3://bucket/out/69d6faf82e4660d3", "format": "csv", "include_input": True},
        batch_metrics={"succeeded": 2, "failed": 1, "avg_time_per_batch": 20.1234},
        item_metrics={"succeeded": 299, "failed": 1},
    )
    expected = """\
job id:   69d6faf82e4660d3
status:   completed with failures
rerun of: 69d6faf82e4660d4

start time: 20 Jul 2020 01:07:44 UTC
end time:   20 Jul 2020 01:08:26 UTC
duration:   42s

retries:         4 attempts, 2s to 5s apart; one for ValueError, a.B
batch timeout:   30s
timeout:         90m
max failures:    5%
on failed batch: isolate
results:         s3://bucket/out/69d6faf82e4660d3 (csv, with input)

batch stats
total   succeeded   failed   avg time per batch
3       2           1        20.123s

item stats
succeeded   failed
299         1

worker stats are not available because this job is not currently running

job endpoint: E/69d6faf82e4660d3"""

    assert expected == unstyle(job_view({"job_status": isolating, "endpoint": "E"}, NOW))


@pytest.mark.parametrize(
    ("said", "retries"),
    [
        ("retries: 1 attempt; one for E", {"attempts": 1, "backoff": 1.0, "max_backoff": 60.0, "no_retry": ["E"]}),
        ("retries: 2 attempts, 500ms apart", {"attempts": 2, "backoff": 0.5, "max_backoff": 60.0, "no_retry": []}),
        ("retries: 3 attempts, 1s to 2s apart", {"attempts": 3, "backoff": 1.0, "max_backoff": 60.0, "no_retry": []}),
        ("retries: 1000 attempts, 0s apart", {"attempts": 1000, "backoff": 0.0, "max_backoff": 60.0, "no_retry": []}),
        (
            "retries: 1000 attempts, 1s to 1m apart",
            {"attempts": 1000, "backoff": 1.0, "max_backoff": 60.0, "no_retry": []},
        ),
    ],
)
def test_retries_read_as_attempts_and_what_lies_between_them(said: str, retries: dict[str, Any]) -> None:
    assert f"\n{said}\n" in unstyle(job_view({"job_status": job(retries=retries), "endpoint": "E"}, NOW))


def test_a_paused_job_is_in_progress_and_says_that_it_waits() -> None:
    paused = job(status="status_paused", batch_metrics={"succeeded": 1, "failed": 0}, worker_counts=None)
    del paused["worker_counts"]

    text = unstyle(job_view({"job_status": paused, "endpoint": "E"}, NOW))

    assert "status: paused\n" in text
    assert "\nno more batches are begun because this job is paused\n" in text
    assert "duration:   3m26s" in text
    assert job_line(paused) == "paused: 1/3 batches"
    assert "69d6faf82e4660d3   paused   1/3" in unstyle(api_view(api(paused), NOW))


def test_a_job_that_took_too_long_reads_as_timed_out() -> None:
    over = ended(status="status_timed_out", status_reason="it took longer than 2h", timeout=7200.0)

    text = unstyle(job_view({"job_status": over, "endpoint": "E"}, NOW))

    assert "status: timed out\nreason: it took longer than 2h\n" in text
    assert "\ntimeout: 2h\n" in text


def test_a_job_that_is_enqueuing_has_no_workers_yet() -> None:
    enqueuing = job(status="status_enqueuing")
    for field in ("start_time", "worker_counts", "batch_metrics"):
        del enqueuing[field]

    text = unstyle(job_view({"job_status": enqueuing, "endpoint": "E"}, NOW))

    assert "start time: -\nend time:   -\nduration:   3m30s" in text
    assert "still enqueuing, workers have not been allocated for this job yet" in text


def test_waiting_workers_have_columns_where_there_are_any() -> None:
    waiting = job(workers=7, worker_counts={"pending": 2, "stalled": 1, "initializing": 4})
    expected = """\
requested   pending   initializing   stalled   running   failed   succeeded
7           2         4              1         0         0        0
"""

    assert expected in unstyle(job_view({"job_status": waiting, "endpoint": "E"}, NOW))


def test_of_an_elastic_job_the_least_and_the_most_are_requested() -> None:
    elastic = job(workers=8, workers_min=2, workers_now=5, worker_counts={"running": 5})
    expected = """\
requested   initializing   running   failed   succeeded
2-8         0              5         0        0
"""

    assert expected in unstyle(job_view({"job_status": elastic, "endpoint": "E"}, NOW))


def test_all_apis_are_listed_with_their_newest_job() -> None:
    apis: Any = [
        (
            "local",
            {
                "name": "image-classifier",
                "running_jobs": 1,
                "latest_job": {"job_id": "69d6faf82e4660d3", "created_time": "2020-07-20T01:07:44Z"},
                "last_updated": "2020-07-18T00:00:00Z",
            },
        ),
        ("prod", {"name": "iris", "running_jobs": 0, "latest_job": None, "last_updated": "2020-07-20T01:11:00Z"}),
    ]
    expected = """\
env     batch api          running jobs   latest job id                         last update
local   image-classifier   1              69d6faf82e4660d3 (submitted 3m ago)   2d
prod    iris               0              -                                     10s"""

    assert expected == unstyle(apis_view(apis, NOW, with_environments=True))


def test_no_apis() -> None:
    assert apis_view([], NOW, with_environments=True) == "no apis are deployed"


def test_a_status_of_a_newer_operator_is_shown_as_it_is() -> None:
    assert job_line(job(status="status_dreaming", total_batch_count=1)) == "status_dreaming: 0/1 batch"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.9, "0s"), (42, "42s"), (206, "3m26s"), (3600, "1h0m0s"), (90061, "25h1m1s"), (-1, "0s")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert expected == format_duration(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (20.1239, "20.123s"),
        (20, "20s"),
        (0.015, "15ms"),
        (0.0000075, "<1ms"),
        (62.5, "1m2.5s"),
        (3600, "1h0m0s"),
        (59.9999, "59.999s"),
    ],
)
def test_short_durations(seconds: float, expected: str) -> None:
    assert expected == format_short_duration(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (172799, "47h"), (172800, "2d")]
)
def test_ages(seconds: int, expected: str) -> None:
    assert expected == format_age(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("text", "files", "batches"),
    [
        ("listed 1200 files, enqueued 10 batches", 1200, 10),
        ("listed 1 file, enqueued 1 batch", 1, 1),
        ("listed 0 files, enqueued 0 batches", 0, 0),
    ],
)
def test_a_job_that_is_enqueuing_says_how_far_it_is(text: str, files: int, batches: int) -> None:
    progress = {"files_listed": files, "batches_enqueued": batches}
    enqueuing = job(status="status_enqueuing", enqueuing=progress, worker_counts=None)
    del enqueuing["start_time"]

    drawn = unstyle(job_view({"job_status": enqueuing, "endpoint": ENDPOINT}, NOW))

    assert f"enqueuing: {text}" == job_line(enqueuing)
    assert f"\n\nstill enqueuing, workers have not been allocated for this job yet\n{text}\n\n" in drawn
