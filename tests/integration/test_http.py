"""The operator over HTTP: every route, every way to get it wrong, and never a 5xx."""

import io
import json
import socket
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess

MIB = 2**20

ECHO = """
    import threading

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            if payload == ["config"]:
                return {name: len(value) for name, value in self.config.items()}
            if payload == ["fail"]:
                raise ValueError("as asked")
            if payload == ["hang"]:
                threading.Event().wait()
            return payload
"""

HUGE = 123456789012345678901234567890
UNKNOWN_JOB = "0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for all tests of this module, with an API that gives back what it gets."""
    server = OperatorProcess(tmp_path_factory.mktemp("operator") / "data").start()
    server.deploy(ECHO)
    yield server
    assert server.stop() == ""  # what the operator cannot answer, it writes to stderr
    server.http.close()


@pytest.fixture(scope="module")
def ended_job(server: OperatorProcess) -> str:
    """A Job that has ended, of which one Batch has failed."""
    job = server.submit([1, HUGE, "ä", "fail", {"a": [None]}], config={"level": 1})
    assert server.wait(job)["status"] == "status_completed_with_failures"
    return job


@pytest.fixture(autouse=True)
def _the_operator_is_healthy(server: OperatorProcess) -> Iterator[None]:
    yield
    assert server.http.get("/healthz").json()["status"] == "ok"


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Give the status and the kind of an error, which has the shape of all errors."""
    body = response.json()
    assert set(body) == {"kind", "message"}
    assert body["message"]
    return response.status_code, body["kind"]


def request_of(*items: Any, batch_size: int = 1, **more: Any) -> dict[str, Any]:
    return {"workers": 1, "item_list": {"items": list(items), "batch_size": batch_size}, **more}


def upload(configuration: Any, files: dict[str, str] | None = None) -> dict[str, Any]:
    """Give the parts of a deployment."""
    project = io.BytesIO()
    with zipfile.ZipFile(project, "w") as archive:
        for path, text in (files or {"predictor.py": PREDICTOR}).items():
            archive.writestr(path, text)
    text = configuration if isinstance(configuration, str) else json.dumps(configuration)
    return {"config": ("cortex.yaml", text), "project": ("project.zip", project.getvalue())}


PREDICTOR = "class PythonPredictor:\n    def __init__(self, config): pass\n    def predict(self, payload): pass\n"


def api(name: str, endpoint: str | None = None, **more: Any) -> dict[str, Any]:
    """Give one API of a configuration."""
    networking = {"networking": {"endpoint": endpoint}} if endpoint else {}
    return {
        "name": name,
        "kind": "BatchAPI",
        "predictor": {"type": "python", "path": "predictor.py"},
        **networking,
        **more,
    }


def deploy(server: OperatorProcess, *apis: dict[str, Any]) -> httpx.Response:
    return server.http.post("/_cortex/deploy", files=upload(list(apis)))


# What the operator tells of itself


def test_the_operator_tells_that_it_is_there_and_what_it_is(server: OperatorProcess):
    health = server.http.get("/healthz")
    info = server.http.get("/_cortex/info").json()

    assert health.json() == {"status": "ok", "version": info["version"]}
    assert {"engine": "processes", "data_dir": str(server.data_dir), "address": server.address}.items() <= info.items()
    assert info["machine"]["cpu"] > 0
    assert info["machine"]["mem"] > 0
    assert info["started_time"].endswith("Z")
    assert (info["apis"], info["jobs_in_progress"]) == (1, 0)


def test_what_is_deployed_is_listed_and_shown(server: OperatorProcess, ended_job: str):
    (listed,) = server.http.get("/_cortex/apis").json()
    shown = server.http.get("/_cortex/apis/api").json()

    assert (listed["name"], listed["kind"], listed["running_jobs"]) == ("api", "BatchAPI", 0)
    assert listed["endpoint"] == shown["endpoint"] == f"{server.address}/api"
    assert listed["latest_job"]["job_id"] == shown["job_statuses"][0]["job_id"]
    assert ended_job in [status["job_id"] for status in shown["job_statuses"]]
    assert shown["spec"]["predictor"]["path"] == "predictor.py"
    assert shown["environment"] == {"status": "none", "message": ""}


# Submitting


@pytest.mark.parametrize("path", ["/api", "/api/"])
def test_a_job_is_submitted_with_and_without_a_slash_at_the_end(server: OperatorProcess, path: str):
    response = server.http.post(path, json=request_of(1, 2, 3, batch_size=2, config={"big": HUGE, "text": "ä"}))

    assert response.status_code == 200
    body = response.json()
    assert set(body) == {
        "job_id", "api_name", "workers", "config", "api_id", "sqs_url", "total_batch_count", "created_time",
    }  # fmt: skip
    assert (body["api_name"], body["workers"], body["total_batch_count"]) == ("api", 1, 2)
    assert body["config"] == {"big": HUGE, "text": "ä"}
    server.wait(body["job_id"])


def test_a_request_needs_no_content_type(server: OperatorProcess):
    response = server.http.post("/api", content=json.dumps(request_of(1)), headers={"content-type": "text/plain"})

    assert response.status_code == 200
    server.wait(response.json()["job_id"])


@pytest.mark.parametrize("word", ["true", "True", "1"])
def test_a_dry_run_only_validates(server: OperatorProcess, word: str):
    jobs = server.http.get("/api").json()["jobs"]

    response = server.http.post("/api", params={"dryRun": word}, json=request_of(1, 2))

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text.rstrip("\n") == "validations passed"
    assert jobs == server.http.get("/api").json()["jobs"]


def test_a_dry_run_of_what_is_wrong_is_refused(server: OperatorProcess):
    assert refusal(server.http.post("/api?dryRun=true", json={"workers": 0})) == (400, "submission.invalid")
    assert refusal(server.http.post("/api?dryRun=perhaps", json=request_of(1))) == (400, "request.invalid")


NESTED = "[" * 100_000 + "]" * 100_000
ITEMS = '"item_list":{"items":[1],"batch_size":1}'


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("is not JSON", b""),
        ("is not JSON", b"{"),
        ("is not JSON", b"workers=1&item_list="),
        ("is not JSON", b"\xef\xbb\xbf{}"),
        ("is not UTF-8", b'{"workers":"\xff"}'),
        ("is not UTF-8", json.dumps(request_of(1)).encode("utf-16")),
        ("must be a JSON object", b"[]"),
        ("must be a JSON object", b"null"),
        ("workers: is required", b"{}"),
        ("workers: got `1.5`", b'{"workers":1.5,' + ITEMS.encode() + b"}"),
        ('workers: got `"1"`', b'{"workers":"1",' + ITEMS.encode() + b"}"),
        ("workers: got `null`", b'{"workers":null,' + ITEMS.encode() + b"}"),
        ("worker: unknown field; did you mean `workers`?", b'{"workers":1,"worker":1,' + ITEMS.encode() + b"}"),
        ("item_list: got", b'{"workers":1,"item_list":[1]}'),
        ("item_list.items: must have at least one item", b'{"workers":1,"item_list":{"items":[],"batch_size":1}}'),
        ("item_list.items: got", b'{"workers":1,"item_list":{"items":"abc","batch_size":1}}'),
        ("item_list.batch_size: is required", b'{"workers":1,"item_list":{"items":[1]}}'),
        (
            "item_list.batchSize: unknown field; did you mean `batch_size`?",
            b'{"workers":1,"item_list":{"items":[1],"batchSize":1}}',
        ),
        ("config: got", b'{"workers":1,"config":1,' + ITEMS.encode() + b"}"),
        ("delimited_files.s3_paths: is required", b'{"workers":1,"delimited_files":{}}'),
        ("nested too deeply", f'{{"workers":1,"item_list":{{"items":[{NESTED}],"batch_size":1}}}}'.encode()),
        ("nested too deeply", f'{{"workers":1,"config":{{"a":{NESTED}}},{ITEMS}}}'.encode()),
        ("workers", b'{"workers":1e999,' + ITEMS.encode() + b"}"),
        ("workers", b'{"workers":9223372036854775808,' + ITEMS.encode() + b"}"),
        ("batch_size", b'{"workers":1,"item_list":{"items":[1],"batch_size":9223372036854775808}}'),
        ("config", b'{"workers":1,"config":{"a":' + b"9" * 5000 + b"}," + ITEMS.encode() + b"}"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:50]),
)
def test_what_is_wrong_with_a_request_is_told_before_there_is_a_job(server: OperatorProcess, said: str, body: bytes):
    jobs = server.http.get("/api").json()["jobs"]

    response = server.http.post("/api", content=body)

    assert refusal(response) == (400, "submission.invalid")
    assert said in response.json()["message"]
    assert jobs == server.http.get("/api").json()["jobs"]


@pytest.mark.parametrize("depth", [100, 240, 500, 900])
def test_an_item_may_be_nested(server: OperatorProcess, depth: int):
    nested = "[" * depth + "]" * depth

    response = server.http.post("/api", content=f'{{"workers":1,"item_list":{{"items":[{nested}],"batch_size":1}}}}')

    job = response.json()["job_id"]
    assert server.wait(job)["status"] == "status_succeeded"
    assert server.http.get(f"/api/{job}/results").text == f"{nested}\n"


def test_an_item_over_256_kib_is_refused(server: OperatorProcess):
    response = server.http.post("/api", json=request_of(1, "x" * 256 * 1024))

    assert refusal(response) == (400, "submission.invalid")
    assert "item_list.items[1]" in response.json()["message"]


@pytest.mark.parametrize("size", [10 * MIB, 11 * MIB, 20 * MIB])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_every_client_sees_that_its_request_is_too_large(server: OperatorProcess, size: int, is_chunked: bool):
    """The client here writes all of its request before it reads: an answer that came too early would be lost."""
    piece = b"x" * MIB
    head = b"POST /api HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n" % server.address.encode().removeprefix(b"http://")
    with connect(server) as client:
        if is_chunked:
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(size // MIB):
                client.sendall(b"%x\r\n%s\r\n" % (MIB, piece))
            client.sendall(b"0\r\n\r\n")
        else:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(size // MIB):
                client.sendall(piece)
        status, body = read_answer(client)

    assert (status, json.loads(body)["kind"]) == (413, "request.too_large")
    assert "10 MiB" in json.loads(body)["message"]


def test_a_request_of_almost_10_mib_is_taken(server: OperatorProcess):
    response = server.http.post("/api?dryRun=true", json=request_of(*["x" * 1000] * 10_000, batch_size=100))

    assert response.text.rstrip("\n") == "validations passed"


def test_more_than_the_operator_can_hold_is_refused_until_there_is_room_again(server: OperatorProcess):
    head = b"POST /api HTTP/1.1\r\nHost: %s\r\n" % server.address.encode().removeprefix(b"http://")
    dry_run = json.dumps(request_of(*["x" * 1000] * 5000, batch_size=100)).encode()

    def answers_with(status: int) -> httpx.Response:
        for _ in range(1000):
            response = server.http.post("/api?dryRun=true", content=dry_run)
            if response.status_code == status:
                return response
        raise AssertionError(f"no answer was {status}")

    with ExitStack() as stack:
        for _ in range(26):  # each holds almost 10 MiB and does not end
            client = stack.enter_context(connect(server))
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % (10 * MIB - 1) + b" " * (10 * MIB - 2))
        refused = answers_with(503)
    assert refusal(refused) == (503, "operator.overloaded")
    assert int(refused.headers["Retry-After"]) > 0
    answers_with(200)


@pytest.mark.parametrize("value", ["x" * 9_000_000, "ä" * 1_500_000], ids=["much", "not ascii"])
def test_a_config_may_be_as_large_as_a_request(server: OperatorProcess, value: str):
    job = server.submit(["config"], config={"value": value})

    assert server.wait(job)["status"] == "status_succeeded"
    assert [{"value": len(value)}] == server.rows(job)


# Seeing a Job


@pytest.mark.parametrize("path", ["/api/JOB", "/api/JOB/", "/api?jobID=JOB", "/api/?jobID=JOB"])
def test_a_job_is_seen_in_both_styles(server: OperatorProcess, ended_job: str, path: str):
    response = server.http.get(path.replace("JOB", ended_job))

    assert response.status_code == 200
    assert response.json()["endpoint"] == f"{server.address}/api"
    assert response.json()["job_status"] == server.status(ended_job)


def test_a_job_that_has_ended_has_what_applies_to_it_and_nothing_else(server: OperatorProcess, ended_job: str):
    status = server.status(ended_job)

    assert set(status) == {
        "job_id", "api_name", "workers", "config", "api_id", "sqs_url", "total_batch_count", "created_time",
        "batches_per_worker", "status", "status_reason", "batches_in_queue", "batches_in_flight", "batch_metrics",
        "item_metrics", "start_time", "end_time",
    }  # fmt: skip
    assert status["created_time"] < status["start_time"] < status["end_time"]
    assert (status["batches_per_worker"], status["config"]) == (5, {"level": 1})
    assert (status["batch_metrics"]["succeeded"], status["batch_metrics"]["failed"]) == (4, 1)
    assert status["batch_metrics"]["avg_time_per_batch"] > 0
    assert "ValueError: as asked" in status["status_reason"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api?jobID="])
def test_the_jobs_of_an_api_are_listed_newest_first(server: OperatorProcess, ended_job: str, path: str):
    newer = server.submit([1])
    server.wait(newer)

    body = server.http.get(path).json()

    assert (body["api_name"], body["kind"], body["endpoint"]) == ("api", "BatchAPI", f"{server.address}/api")
    ids = [job["job_id"] for job in body["jobs"]]
    assert newer == ids[0]
    assert ended_job in ids
    assert ids == sorted(ids)


def test_results_are_json_lines_in_input_order_with_every_digit(server: OperatorProcess, ended_job: str):
    for path in (f"/api/{ended_job}/results", f"/api/{ended_job}/results/", f"/api/{ended_job}/results?follow=true"):
        response = server.http.get(path)

        assert response.headers["content-type"] == "application/x-ndjson"
        assert [1, HUGE, "ä", {"a": [None]}] == [json.loads(line) for line in response.text.splitlines()]


def test_failures_name_their_batch_and_what_was_raised(server: OperatorProcess, ended_job: str):
    response = server.http.get(f"/api/{ended_job}/failures")

    assert response.headers["content-type"] == "application/x-ndjson"
    (failure,) = [json.loads(line) for line in response.text.splitlines()]
    assert set(failure) == {
        "batch_id",
        "first_item",
        "items",
        "type",
        "message",
        "traceback",
        "attempts",
        "worker",
        "time",
    }
    assert (failure["type"], failure["message"]) == ("ValueError", "as asked")
    assert (failure["first_item"], failure["items"], failure["attempts"]) == (3, 1, 1)
    assert f"{failure['worker']}:INFO:processing batch {failure['batch_id']}" in server.log(ended_job)
    status = server.status(ended_job)
    assert status["start_time"] < failure["time"] < status["end_time"]


def test_the_items_of_failed_batches_are_lines(server: OperatorProcess, ended_job: str):
    (failure,) = server.http.get(f"/api/{ended_job}/failures").text.splitlines()
    response = server.http.get(f"/api/{ended_job}/failures?items=true")

    assert response.headers["content-type"] == "application/x-ndjson"
    assert [{"batch_id": json.loads(failure)["batch_id"], "items": ["fail"]}] == [
        json.loads(line) for line in response.text.splitlines()
    ]
    assert refusal(server.http.get(f"/api/{ended_job}/failures?items=some")) == (400, "request.invalid")


def test_the_log_is_text(server: OperatorProcess, ended_job: str):
    response = server.http.get(f"/api/{ended_job}/logs?follow=true")

    assert response.headers["content-type"].startswith("text/plain")
    assert "ValueError: as asked" in response.text


def test_follow_is_true_or_false(server: OperatorProcess, ended_job: str):
    for what in ("results", "logs"):
        assert refusal(server.http.get(f"/api/{ended_job}/{what}?follow=maybe")) == (400, "request.invalid")


@pytest.mark.parametrize("path", ["/healthz", "/_cortex/info", "/_cortex/apis", "/api", "/api/JOB", "/api/JOB/logs"])
def test_head_answers_as_get_without_a_body(server: OperatorProcess, ended_job: str, path: str):
    response = server.http.head(path.replace("JOB", ended_job))

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("what", ["logs", "results"])
def test_who_asks_for_the_head_of_what_follows_a_job_need_not_wait_for_its_end(server: OperatorProcess, what: str):
    job = server.submit(["hang"])
    with httpx.Client(base_url=server.address, timeout=TIMEOUT_SECONDS) as client:
        head = client.head(f"/api/{job}/{what}?follow=true")
        seen = client.get(f"/api/{job}").json()["job_status"]  # by the same connection

    assert head.status_code == 200
    assert "end_time" not in seen
    server.http.delete(f"/api/{job}")


# Stopping


@pytest.mark.parametrize("path", ["/api/JOB", "/api/JOB/", "/api?jobID=JOB", "/api/?jobID=JOB"])
def test_a_job_is_stopped_in_both_styles(server: OperatorProcess, path: str):
    job = server.submit(["hang", 1, 2])

    response = server.http.delete(path.replace("JOB", job))

    assert (response.status_code, response.json()) == (200, {"message": f"stopped job {job}"})
    assert server.status(job)["status"] == "status_stopped"
    assert refusal(server.http.delete(path.replace("JOB", job))) == (409, "job.not_in_progress")


def test_a_job_that_has_ended_cannot_be_stopped(server: OperatorProcess, ended_job: str):
    assert refusal(server.http.delete(f"/api/{ended_job}")) == (409, "job.not_in_progress")


# What is not there


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("api.not_found", "/"),
        ("api.not_found", "/nothing"),
        ("api.not_found", "/nothing/"),
        ("api.not_found", f"/nothing/{UNKNOWN_JOB}"),
        ("api.not_found", "/apis"),
        ("api.not_found", "/ap"),
        ("api.not_found", "/API"),
        ("job.not_found", f"/api/{UNKNOWN_JOB}"),
        ("job.not_found", f"/api?jobID={UNKNOWN_JOB}"),
        ("job.not_found", f"/api/{UNKNOWN_JOB}/results"),
        ("job.not_found", f"/api/{UNKNOWN_JOB}/nothing"),
        ("job.not_found", "/api/results"),
        ("job.not_found", "/api/%00"),
        ("job.not_found", "/api?jobID=%00"),
        ("job.not_found", "/api?jobID=%ff"),
        ("job.not_found", "/api/%f0%9f%98%80"),
        ("job.not_found", "/api/" + "x" * 5000),
        ("job.not_found", "/api/'; DROP TABLE jobs; --"),
        ("route.not_found", "/_cortex/nothing"),
        ("route.not_found", "/_cortex/apis/a/b"),
    ],
)
def test_what_is_not_there_is_404(server: OperatorProcess, method: str, kind: str, path: str):
    assert refusal(server.http.request(method, path)) == (404, kind)


def test_a_job_of_another_api_is_not_there(server: OperatorProcess, ended_job: str):
    assert deploy(server, api("other")).status_code == 200

    assert refusal(server.http.get(f"/other/{ended_job}")) == (404, "job.not_found")
    assert refusal(server.http.delete(f"/other/{ended_job}")) == (404, "job.not_found")
    assert server.http.delete("/_cortex/apis/other").status_code == 200


def test_a_job_has_no_other_outputs(server: OperatorProcess, ended_job: str):
    for what in ("nothing", "results/1", "Results"):
        for method in ("GET", "POST"):
            answer = server.http.request(method, f"/api/{ended_job}/{what}")
            assert refusal(answer) == (404, "route.not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/healthz"),
        ("DELETE", "/healthz"),
        ("POST", "/_cortex/info"),
        ("GET", "/_cortex/deploy"),
        ("POST", "/_cortex/apis"),
        ("PUT", "/_cortex/apis/api"),
        ("PUT", "/api"),
        ("PATCH", "/api/"),
        ("DELETE", "/api"),
        ("OPTIONS", "/api"),
        ("POST", "/api/JOB"),
        ("PUT", "/api?jobID=JOB"),
        ("POST", "/api/JOB/results"),
        ("DELETE", "/api/JOB/logs"),
        ("PUT", "/api/JOB/failures"),
        ("GET", "/api/JOB/rerun"),
        ("DELETE", "/api/JOB/pause"),
        ("POST", "/api/JOB/verify"),
        ("POST", "/api/JOB/manifest"),
        ("GET", "/_cortex/prune"),
    ],
)
def test_a_wrong_method_is_405(server: OperatorProcess, ended_job: str, method: str, path: str):
    response = server.http.request(method, path.replace("JOB", ended_job))

    assert refusal(response) == (405, "request.method_not_allowed")


@pytest.mark.parametrize(
    "target",
    [
        b"//",
        b"//api//",
        b"/api/../../etc/passwd",
        b"/_cortex/apis/../../etc/passwd",
        b"/_cortex",
        b"/_cortex/",
        b"/_cortex/apis/%00",
        b"/_cortex/apis/",
        b"/%ff%fe",
        b"/api?jobID=%00&jobID=x&follow=x",
        b"/api?" + b"x" * 10_000,
        b"http://127.0.0.1/api",
        b"*",
        b"/api#fragment",
        b"/api\x80",
    ],
)
def test_no_path_makes_the_operator_fail(server: OperatorProcess, target: bytes):
    for method in (b"GET", b"POST", b"DELETE", b"OPTIONS"):
        status, _ = ask_raw(server, method, target)

        assert 200 <= status < 500


# Who may ask


@pytest.mark.parametrize("path", ["/healthz", "/_cortex/info", "/_cortex/deploy", "/api", "/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example.com"},
        {"host": "127.0.0.1:1"},
        {"origin": "http://evil.example.com"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": "http://localhost:1"},
    ],
    ids=str,
)
def test_a_page_from_elsewhere_may_not_ask(server: OperatorProcess, path: str, headers: dict[str, str]):
    assert refusal(server.http.post(path, headers=headers, json=request_of(1))) == (403, "request.forbidden")
    assert server.http.get(path, headers=headers).status_code == 403


def test_who_names_no_host_may_not_ask(server: OperatorProcess):
    with connect(server) as client:
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")

        assert read_answer(client)[0] == 403


def test_the_operators_own_names_may_ask(server: OperatorProcess):
    port = server.address.rsplit(":", 1)[1]
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
        headers = {"host": name, "origin": f"http://{name}"}

        assert server.http.get("/healthz", headers=headers).status_code == 200


# Deploying


def test_an_upload_must_have_both_files(server: OperatorProcess):
    both = upload([api("a")])
    attempts: list[dict[str, Any]] = [
        {},
        {"json": {"config": "x"}},
        {"data": {"config": "x", "project": "y"}},
        {"files": {"config": both["config"]}},
        {"files": {"project": both["project"]}},
        {"files": {**both, "more": ("x", b"x")}},
        {"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=" + "x" * 1000}},
    ]

    for attempt in attempts:
        assert refusal(server.http.post("/_cortex/deploy", **attempt)) == (400, "request.invalid")


@pytest.mark.parametrize(
    ("kind", "said", "configuration"),
    [
        ("configuration.invalid", "cortex.yaml", ""),
        ("configuration.invalid", "cortex.yaml", "- name: [\n"),
        ("configuration.invalid", "cortex.yaml", "\x00"),
        ("configuration.invalid", "predictr", [{**api("a"), "predictr": {}}]),
        ("configuration.invalid", "TaskAPI", [{**api("a"), "kind": "TaskAPI"}]),
        ("configuration.invalid", "cores", [api("a", compute={"cpu": 100_000})]),
        ("configuration.invalid", "_cortex", [api("a", "/_cortex/x")]),
        ("configuration.invalid", "healthz", [api("healthz")]),
        ("configuration.invalid", "is taken", [api("a", "/same"), api("b", "/same/below")]),
        ("configuration.invalid", "other.py", [{**api("a"), "predictor": {"type": "python", "path": "other.py"}}]),
        ("api.endpoint_taken", "`/api`", [api("a", "/api")]),
        ("api.endpoint_taken", "`/api`", [api("a", "/api/below")]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_a_deployment_is_told_and_nothing_is_deployed(
    server: OperatorProcess, kind: str, said: str, configuration: Any
):
    response = server.http.post("/_cortex/deploy", files=upload(configuration))

    assert refusal(response) == (409 if kind == "api.endpoint_taken" else 400, kind)
    assert said in response.json()["message"]
    assert [version["name"] for version in server.http.get("/_cortex/apis").json()] == ["api"]


def test_a_configuration_that_would_fill_the_memory_is_refused(server: OperatorProcess):
    assert refusal(server.http.post("/_cortex/deploy", files=upload("#" * 5_000_000))) == (413, "request.too_large")


def test_a_project_that_is_no_archive_is_refused(server: OperatorProcess):
    response = server.http.post("/_cortex/deploy", files={**upload([api("a")]), "project": ("project.zip", b"PK no")})

    assert refusal(response) == (400, "project.invalid")


def test_an_api_is_created_updated_and_up_to_date(server: OperatorProcess):
    answers = [
        deploy(server, api("x")).json(),
        deploy(server, api("x")).json(),
        deploy(server, api("x", "/y")).json(),
    ]

    assert [["created x (BatchAPI)"], ["x (BatchAPI) is up to date"], ["updated x (BatchAPI)"]] == [
        [one["message"] for one in answer] for answer in answers
    ]
    assert [one["error"] for answer in answers for one in answer] == ["", "", ""]
    assert answers[2][0]["api"]["endpoint"] == f"{server.address}/y"
    assert refusal(server.http.get("/x")) == (404, "api.not_found")
    assert server.http.get("/y").status_code == 200
    assert server.http.delete("/_cortex/apis/x").json() == {"message": "deleting x"}


def test_apis_that_are_deployed_together_may_swap_their_endpoints(server: OperatorProcess):
    assert deploy(server, api("one", "/first"), api("two", "/second")).status_code == 200

    response = deploy(server, api("one", "/second"), api("two", "/first"))

    assert response.status_code == 200, response.text
    assert server.http.get("/second").json()["api_name"] == "one"
    assert server.http.get("/first").json()["api_name"] == "two"
    for name in ("one", "two"):
        assert server.http.delete(f"/_cortex/apis/{name}").status_code == 200


def test_an_endpoint_may_have_several_parts(server: OperatorProcess):
    assert deploy(server, api("deep", "/team/a.b/deep")).status_code == 200

    job = server.submit([1], api="team/a.b/deep")
    for path in (f"/team/a.b/deep/{job}", f"/team/a.b/deep/?jobID={job}", f"/team/a.b/deep/{job}/"):
        assert server.http.get(path).json()["job_status"]["job_id"] == job
    for path in ("/team", "/team/a.b", "/team/a.b/deeper", "/team/axb/deep"):
        assert refusal(server.http.get(path)) == (404, "api.not_found")

    server.wait(job, api="team/a.b/deep")
    assert server.http.delete("/_cortex/apis/deep").status_code == 200


# Deleting


def test_a_deleted_api_is_gone_with_its_jobs_when_the_answer_is_given(server: OperatorProcess):
    server.deploy(ECHO, name="leaving")
    ended, running = server.submit([1], api="leaving"), server.submit(["hang"], api="leaving")
    server.wait(ended, api="leaving")

    response = server.http.delete("/_cortex/apis/leaving")

    assert (response.status_code, response.json()) == (200, {"message": "deleting leaving"})
    for path in ("/leaving", f"/leaving/{ended}", f"/leaving/{running}/logs", "/_cortex/apis/leaving"):
        assert refusal(server.http.get(path)) == (404, "api.not_found")
    assert refusal(server.http.delete("/_cortex/apis/leaving")) == (404, "api.not_found")
    assert not [path for path in server.data_dir.rglob("*") if ended in path.name or running in path.name]


# Clients that speak for themselves


def connect(server: OperatorProcess) -> socket.socket:
    host, port = server.address.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), TIMEOUT_SECONDS)


def ask_raw(server: OperatorProcess, method: bytes, target: bytes) -> tuple[int, bytes]:
    host = server.address.removeprefix("http://").encode()
    with connect(server) as client:
        client.sendall(b"%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (method, target, host))
        return read_answer(client)


def read_answer(client: socket.socket) -> tuple[int, bytes]:
    """Read to the end; give the status and the body."""
    answer = b""
    while data := client.recv(65_536):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body
