"""Section 2 of the contract: the Batch API over HTTP."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from contract_world import ECHO, REALTIME, Gate, files_of, submit

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from s3_server import S3

MIB = 2**20
UNKNOWN_JOB = "0123456789abcdef"
SUBMITTED = {"job_id", "api_name", "workers", "config", "api_id", "sqs_url", "created_time"}
DESCRIBED = {*SUBMITTED, "batches_per_worker", "status", "batches_in_queue", "batch_metrics", "start_time"}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")

GATED = """
    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.gate, self.total = config["gate"], job_spec["total_batch_count"]

        def predict(self, payload):
            if payload == ["wait"]:
                print("waiting", flush=True)
                with open(self.gate) as gate:
                    gate.read()
            if payload == ["fail"]:
                raise ValueError("as asked")
            return [self.total if item == "total" else item for item in payload]

        def on_job_complete(self):
            print("the last word")
"""


@pytest.fixture
def submit_gated(operator: OperatorProcess, gate: Gate) -> Callable[..., str]:
    """Submit jobs whose item `wait` is held until the gate is opened."""
    operator.deploy(GATED, name="gated")
    return lambda *items, **more: operator.submit(list(items), api="gated", config={"gate": str(gate.path)}, **more)


def wait_for_line(operator: OperatorProcess, job: str, line: str) -> None:
    assert any(each.endswith(line) for each in follow_lines(operator, job, api="gated"))


@pytest.mark.parametrize("path", ["/echo", "/echo/"])
def test_a_job_is_submitted_at_the_endpoint(operator: OperatorProcess, path: str) -> None:
    """`POST <endpoint>` and `<endpoint>/` …"""
    request = {"workers": 2, "item_list": {"items": [1, 2, 3], "batch_size": 2}, "config": {"string": [1]}}

    answer = operator.http.post(path, json=request)

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) >= SUBMITTED
    assert ("echo", 2, {"string": [1]}) == (body["api_name"], body["workers"], body["config"])
    assert operator.wait(body["job_id"], api="echo")["status"] == "status_succeeded"


def test_a_submission_is_answered_when_it_is_recorded_and_before_it_is_enqueued(
    start_operator: Callable[..., OperatorProcess], s3: S3
) -> None:
    """`POST <endpoint>` and `<endpoint>/` …: answered as soon as the job is durably recorded."""
    s3.put("recorded/a.json", body=b"1\n2\n")
    may_be_read = threading.Event()
    s3.faults.before(lambda: may_be_read.wait(TIMEOUT_SECONDS), matching="recorded/a.json")
    operator = start_operator("--keep-warm", "0", env=s3.env)
    operator.deploy(ECHO)

    job = submit(operator, files_of("delimited_files", s3.url("recorded/")), api="api")
    status = operator.status(job)
    operator.kill()
    may_be_read.set()
    operator.start()

    assert status["status"] == "status_enqueuing"
    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 2] == operator.rows(job)


def test_a_dry_run_lists_the_files_and_makes_no_job(operator: OperatorProcess, s3: S3) -> None:
    """`POST <endpoint>?dryRun=true` …"""
    s3.put("dry/b.json", "dry/a.json")
    jobs = operator.http.get("/echo").json()["jobs"]

    files, items = (
        operator.http.post("/echo?dryRun=true", json=request)
        for request in (
            files_of("delimited_files", s3.url("dry/")),
            {"workers": 1, "item_list": {"items": [1], "batch_size": 1}},
        )
    )

    for answer in (files, items):
        assert answer.headers["content-type"].startswith("text/plain")
    assert f"{s3.url('dry/a.json')}\n{s3.url('dry/b.json')}\nvalidations passed" == files.text
    assert items.text == "validations passed"
    assert jobs == operator.http.get("/echo").json()["jobs"]


@pytest.mark.parametrize("path", ["/gated?jobID=JOB", "/gated/JOB", "/gated/JOB/", "/gated/?jobID=JOB"])
def test_the_status_of_a_job_has_the_fields_of_the_documents(
    operator: OperatorProcess, submit_gated: Callable[..., str], gate: Gate, path: str
) -> None:
    """`GET <endpoint>?jobID=ID` and `GET <endpoint>/ID` …"""
    job = submit_gated(1, "wait", 3)
    wait_for_line(operator, job, "waiting")

    running = operator.http.get(path.replace("JOB", job)).json()
    gate.open()
    operator.wait(job, api="gated")
    ended = operator.http.get(path.replace("JOB", job)).json()

    for answer in (running, ended):
        assert set(answer) == {"job_status", "endpoint"}
        assert f"{operator.address}/gated" == answer["endpoint"]
        assert set(answer["job_status"]) >= DESCRIBED
        assert set(answer["job_status"]["batch_metrics"]) == {"succeeded", "failed", "avg_time_per_batch"}
    assert running["job_status"]["worker_counts"] == {
        "pending": 0, "initializing": 0, "running": 1, "succeeded": 0, "failed": 0, "stalled": 0,
    }  # fmt: skip
    assert "end_time" in ended["job_status"]


def test_an_endpoint_shows_its_jobs_newest_first(operator: OperatorProcess) -> None:
    """`GET <endpoint>` | the API's endpoint …"""
    operator.deploy(ECHO, name="listed")
    jobs = [operator.submit([number], api="listed") for number in range(3)]
    for job in jobs:
        operator.wait(job, api="listed")

    body = operator.http.get("/listed").json()

    assert f"{operator.address}/listed" == body["endpoint"]
    assert jobs[::-1] == [job["job_id"] for job in body["jobs"]]


def test_the_endpoint_of_a_realtime_api_shows_a_summary(operator: OperatorProcess) -> None:
    """`GET <endpoint>` | the API's endpoint …: a RealtimeAPI: a JSON summary."""
    operator.deploy_realtime(REALTIME, name="summary")
    codes = [operator.http.post("/summary", json=payload).status_code for payload in (1, "raise")]
    bad = operator.http.post("/summary", content="{", headers={"Content-Type": "application/json"})

    body = operator.http.get("/summary").json()
    operator.http.delete("/_cortex/apis/summary")

    assert [200, 500, 400] == [*codes, bad.status_code]
    assert f"{operator.address}/summary" == body["endpoint"]
    assert ("summary", "RealtimeAPI", "status_live") == (body["api_name"], body["kind"], body["status"]["status_code"])
    stats = body["metrics"]["network_stats"]
    assert (3, 1, 1, 1) == (stats["total"], stats["code_2xx"], stats["code_4xx"], stats["code_5xx"])


def test_outputs_are_lines_as_far_as_the_job_is_and_can_be_followed(
    operator: OperatorProcess, submit_gated: Callable[..., str], gate: Gate
) -> None:
    """`GET <endpoint>/ID/results`, `/failures`, `/logs`, `/manifest` …"""
    job = submit_gated("one", "fail", "wait")
    wait_for_line(operator, job, "waiting")
    outputs = ("results", "failures", "manifest", "logs")

    def read(what: str, **options: str) -> httpx.Response:
        return operator.http.get(f"/gated/{job}/{what}", params=options)

    so_far = {what: read(what) for what in outputs}
    with operator.http.stream("GET", f"/gated/{job}/results", params={"follow": "true"}) as response:
        followed = response.iter_lines()
        first = next(followed)
        gate.open()
        rest = list(followed)
    to_the_end = {what: read(what, follow="true") for what in outputs}

    assert ['"one"', ['"wait"']] == [first, rest]
    assert ['"one"'] == so_far["results"].text.splitlines()
    assert ['"one"', '"wait"'] == to_the_end["results"].text.splitlines()
    for answers in (so_far, to_the_end):
        (failure,) = [json.loads(line) for line in answers["failures"].text.splitlines()]
        assert ("ValueError", "as asked") == (failure["type"], failure["message"])
        assert answers["logs"].headers["content-type"].startswith("text/plain")
        assert {answers[what].headers["content-type"] for what in outputs[:3]} == {"application/x-ndjson"}
    receipts = [list(map(json.loads, each["manifest"].text.splitlines())) for each in (so_far, to_the_end)]
    statuses = [[line["status"] for line in receipt if line["kind"] == "batch"] for receipt in receipts]
    assert [["succeeded", "failed"], ["succeeded", "failed", "succeeded"]] == statuses
    assert [["job", "total"]] * 2 == [[receipt[0]["kind"], receipt[-1]["kind"]] for receipt in receipts]
    assert [(3, 1, 1, 1), (3, 2, 1, 0)] == [
        tuple(receipt[-1][name] for name in ("items", "succeeded_items", "failed_items", "open_items"))
        for receipt in receipts
    ]
    assert "the last word" not in so_far["logs"].text
    assert to_the_end["logs"].text.splitlines()[-1].startswith("completed with failures: 1 of 3 batches failed")


@pytest.mark.parametrize("path", ["/gated?jobID=JOB", "/gated/JOB"])
def test_a_job_is_stopped(operator: OperatorProcess, submit_gated: Callable[..., str], path: str) -> None:
    """`DELETE <endpoint>?jobID=ID` and `DELETE <endpoint>/ID` …"""
    job = submit_gated("wait")

    answer = operator.http.delete(path.replace("JOB", job))

    assert (200, {"message": f"stopped job {job}"}) == (answer.status_code, answer.json())
    assert operator.status(job, api="gated")["status"] == "status_stopped"


ITEMS = {"items": [1], "batch_size": 1}
LINES = {"s3_paths": ["s3://BUCKET/requests/"]}


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        ("workers: is required", {"item_list": ITEMS}),
        ("workers: got `0`, must be at least 1", {"workers": 0, "item_list": ITEMS}),
        ("workers.min: is required", {"workers": {"max": 2}, "item_list": ITEMS}),
        ("workers.min: got `0`, must be at least 1", {"workers": {"min": 0, "max": 2}, "item_list": ITEMS}),
        ("workers: `min` is `3`, must be at most `max`", {"workers": {"min": 3, "max": 2}, "item_list": ITEMS}),
        ("exactly one of `item_list`, `file_path_lister`, `delimited_files`; got none", {"workers": 1}),
        ("got `item_list` and `delimited_files`", {"workers": 1, "item_list": ITEMS, "delimited_files": LINES}),
        ("item_list.batch_size: is required", {"workers": 1, "item_list": {"items": [1]}}),
        ("item_list.batch_size: got `0`, must be at least 1", {"workers": 1, "item_list": {**ITEMS, "batch_size": 0}}),
        ("file_path_lister.batch_size: is required", {"workers": 1, "file_path_lister": LINES}),
        ("worker: unknown field; did you mean `workers`?", {"workers": 1, "worker": 1, "item_list": ITEMS}),
        ("did you mean `includes`?", {"workers": 1, "delimited_files": {**LINES, "include": ["**"]}}),
        ("item_list.items[1]", {"workers": 1, "item_list": {"items": [1, "x" * 2**18], "batch_size": 1}}),
        ("item_list.items[0] to [1]", {"workers": 1, "item_list": {"items": ["x" * 2**17] * 2, "batch_size": 2}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_submission_has_what_it_must_and_nothing_unknown(
    operator: OperatorProcess, s3: S3, said: str, request_: Any
) -> None:
    """Submission: `workers` (int >= 1; …"""
    s3.put("requests/a.json", body=b"1\n")

    answer = operator.http.post("/echo", content=json.dumps(request_).replace("BUCKET", s3.bucket))

    assert (400, "submission.invalid") == (answer.status_code, answer.json()["kind"])
    assert said in answer.json()["message"]


def test_an_elastic_job_says_its_least_its_most_and_how_many_work_now(
    operator: OperatorProcess, submit_gated: Callable[..., str], gate: Gate
) -> None:
    """Submission: `workers` (int >= 1; …: `{min, max}` where elastic."""
    job = submit_gated("wait", workers={"min": 1, "max": 3})
    wait_for_line(operator, job, "waiting")

    status = operator.status(job, api="gated")
    gate.open()
    ended = operator.wait(job, api="gated")

    assert (3, 1, 1) == (status["workers"], status["workers_min"], status["workers_now"])
    assert ("status_succeeded", 3, 1) == (ended["status"], ended["workers"], ended["workers_min"])
    assert "workers_now" not in ended
    assert ["wait"] == operator.rows(job, api="gated")


def test_a_batch_of_lines_is_one_unless_it_is_said(operator: OperatorProcess, s3: S3) -> None:
    """Submission: `workers` (int >= 1; …: `batch_size` is 1 by default for `delimited_files`."""
    s3.put("one/a.json", body=b"1\n2\n3\n")

    job = submit(operator, {**files_of("delimited_files", s3.url("one/")), "config": {}})

    assert operator.wait(job, api="echo")["total_batch_count"] == 3


@pytest.mark.parametrize("size", [10 * MIB, 64 * MIB - 1], ids=["10 MiB", "64 MiB"])
def test_who_sends_too_much_sees_the_answer(operator: OperatorProcess, size: int) -> None:
    """Submission: `workers` (int >= 1; …: the request must be under 10 MiB."""
    answer = operator.http.post("/echo", content=b" " * size)

    assert (413, "request.too_large") == (answer.status_code, answer.json()["kind"])


def test_a_request_just_under_10_mib_and_a_batch_just_under_256_kib_are_accepted(operator: OperatorProcess) -> None:
    """Submission: `workers` (int >= 1; …: under 10 MiB, under 256 KiB."""
    items = ["x" * (2**18 - 10)] * 39
    body = json.dumps({"workers": 1, "item_list": {"items": items, "batch_size": 1}}).encode()

    answer = operator.http.post("/echo", content=body + b" " * (10 * MIB - 1 - len(body)))

    assert answer.status_code == 200, answer.text
    assert operator.wait(answer.json()["job_id"], api="echo")["batch_metrics"]["succeeded"] == 39


def test_a_line_over_256_kib_fails_the_enqueuing(operator: OperatorProcess, s3: S3) -> None:
    """Submission: `workers` (int >= 1; …: of a file source: `status_enqueue_failed`."""
    s3.put("large/a.json", body=b'1\n"' + b"x" * 2**18 + b'"\n')

    status = operator.wait(submit(operator, files_of("delimited_files", s3.url("large/"))), api="echo")

    assert status["status"] == "status_enqueue_failed"
    assert "line 2" in status["status_reason"]


def test_times_and_counts_are_there_when_they_apply(
    operator: OperatorProcess, submit_gated: Callable[..., str], gate: Gate
) -> None:
    """`created_time` = submission, `start_time` = workers start …"""
    job = submit_gated("wait", "total", 3, 4, 5, workers=2)
    wait_for_line(operator, job, "waiting")
    running = operator.status(job, api="gated")
    gate.open()
    ended = operator.wait(job, api="gated")
    never_started = operator.submit([1], api="gated", workers=1)  # without a gate in its config
    assert operator.wait(never_started, api="gated")["status"] == "status_worker_error"

    assert "end_time" not in running
    assert "worker_counts" in running
    assert "worker_counts" not in ended
    assert "status_reason" not in ended
    assert (5, 3) == (ended["total_batch_count"], ended["batches_per_worker"])
    assert 5 in operator.rows(job, api="gated")  # from job_spec
    assert ended["created_time"] < ended["start_time"] < ended["end_time"]
    assert all(INSTANT.fullmatch(ended[name]) for name in ("created_time", "start_time", "end_time"))
    assert job in ended["sqs_url"]
    assert "avg_time_per_batch" not in operator.status(never_started, api="gated")["batch_metrics"]


def test_an_api_id_identifies_the_version(operator: OperatorProcess) -> None:
    """`created_time` = submission, `start_time` = workers start …: `api_id`."""
    ids = []
    for source in (ECHO, ECHO, ECHO + "# another\n"):
        operator.deploy(source, name="versions")
        ids.append(operator.wait(operator.submit([1], api="versions"), api="versions")["api_id"])

    assert ids[0] == ids[1] != ids[2]


def test_ids_are_steady_and_the_newest_sorts_first(operator: OperatorProcess, tmp_path: Path) -> None:
    """Job ids: 16 lower-case hex digits …"""
    operator.deploy(
        """
        import os
        class PythonPredictor:
            def __init__(self, config):
                self.seen = config["seen"]

            def predict(self, payload, batch_id):
                with open(self.seen, "a") as seen:
                    print(batch_id, file=seen)
                if len(open(self.seen).readlines()) < 3:
                    os._exit(1)
                return batch_id
        """,
        name="attempts",
    )
    jobs = [operator.submit([1], api="attempts", config={"seen": str(tmp_path / f"seen-{i}")}) for i in range(3)]
    for job in jobs:
        operator.wait(job, api="attempts")

    assert all(re.fullmatch(r"[0-9a-f]{16}", job) for job in jobs)
    assert sorted(set(jobs)) == jobs[::-1]
    batches = [operator.rows(job, api="attempts") for job in jobs]
    attempts = [(tmp_path / f"seen-{i}").read_text().split() for i in range(3)]
    assert [each * 3 for each in batches] == attempts
    assert len({UUID(batch) for (batch,) in batches}) == 3


def test_the_counts_add_up_at_every_read_and_the_end_shows_last(operator: OperatorProcess) -> None:
    """Status codes: those of seeds/4 …"""
    operator.deploy(GATED, name="gated")
    for _ in range(5):
        job = operator.submit([*range(200), "fail"], api="gated", workers=2, config={"gate": ""})
        while operator.status(job, api="gated")["status"] in ("status_enqueuing", "status_running"):
            pass  # each of these reads checks the sum
        assert operator.log(job, api="gated").splitlines()[-1].startswith("completed with failures: ")
    status = operator.status(job, api="gated")

    assert status["status"] == "status_completed_with_failures"
    assert "ValueError: as asked" in status["status_reason"]


def test_a_job_that_takes_too_long_has_timed_out_and_says_why(
    submit_gated: Callable[..., str], operator: OperatorProcess
) -> None:
    """Status codes: those of seeds/4 …: plus `status_timed_out`."""
    job = submit_gated("wait", timeout=0.5)

    status = operator.wait(job, api="gated")

    assert ("status_timed_out", True) == (status["status"], "timeout of 0.5 seconds" in status["status_reason"])


def test_a_job_that_is_paused_says_so_until_it_is_resumed(
    submit_gated: Callable[..., str], operator: OperatorProcess, gate: Gate
) -> None:
    """Status codes: those of seeds/4 …: plus `status_paused`."""
    job = submit_gated("wait", 1)
    wait_for_line(operator, job, "waiting")

    operator.http.post(f"/gated/{job}/pause").raise_for_status()
    paused = operator.status(job, api="gated")["status"]
    operator.http.post(f"/gated/{job}/resume").raise_for_status()
    gate.open()

    assert ("status_paused", "status_succeeded") == (paused, operator.wait(job, api="gated")["status"])


@pytest.mark.parametrize(
    ("code", "method", "path", "body"),
    [
        (400, "POST", "/echo", b"{"),
        (404, "POST", "/nothing", b"{}"),
        (404, "GET", f"/echo/{UNKNOWN_JOB}", b""),
        (405, "PUT", "/echo", b""),
        (409, "DELETE", "/echo/JOB", b""),
        (413, "POST", "/echo", b" " * 10 * MIB),
        (403, "GET", "/echo#evil", b""),
    ],
    ids=["invalid", "no API", "no job", "method", "conflict", "too large", "forbidden"],
)
def test_errors_have_an_honest_code(operator: OperatorProcess, code: int, method: str, path: str, body: bytes) -> None:
    """Errors: `{"kind": "...", "message": "..."}` …"""
    job = operator.submit([1], api="echo")
    operator.wait(job, api="echo")
    headers = {"origin": "http://evil.example.com"} if code == 403 else {}

    answer = operator.http.request(method, path.replace("JOB", job), content=body, headers=headers)

    assert code == answer.status_code
    assert set(answer.json()) == {"kind", "message"}


@pytest.mark.parametrize(
    ("said", "request_"),
    [
        (["item_list.batch_size", '`"2"`', "whole number"], {"item_list": {"items": [1], "batch_size": "2"}}),
        (["delimited_files.includes[0]", "`[`"], {"delimited_files": {**LINES, "includes": ["["]}}),
        (["delimited_files.s3_paths", "`nosuch-bucket`"], {"delimited_files": {"s3_paths": ["s3://nosuch-bucket/"]}}),
        (["delimited_files", "**.jpg"], {"delimited_files": {**LINES, "includes": ["**.jpg"]}}),
        (["delimited_files.s3_paths", "nothing/"], {"delimited_files": {"s3_paths": ["s3://BUCKET/nothing/"]}}),
        (["item_list.items[0]", "262144"], {"item_list": {"items": ["x" * 2**18], "batch_size": 1}}),
    ],
    ids=["wrong type", "bad glob", "no bucket", "no match", "no file", "large item"],
)
def test_what_can_be_known_at_submission_is_never_a_failed_job(
    operator: OperatorProcess, s3: S3, said: list[str], request_: Any
) -> None:
    """Errors: `{"kind": "...", "message": "..."}` …: the message, and validation before the 200."""
    s3.put("requests/a.json", body=b"1\n")
    jobs = operator.http.get("/echo").json()["jobs"]

    body = json.dumps({"workers": 1, **request_}).replace("BUCKET", s3.bucket)
    answer = operator.http.post("/echo", content=body)

    assert answer.status_code == 400
    assert [] == [word for word in said if word not in answer.json()["message"]], answer.json()["message"]
    assert jobs == operator.http.get("/echo").json()["jobs"]
