"""The Python client: which requests its methods make, and what they give."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from stub_operator import Refusal, StubOperator, Then, begin_chunks, cut_off, send_chunk, use

import cortex
from cortex.clients import progress, waiting
from cortex.clients.connect import client_of
from cortex.clients.environments import Environment
from cortex.clients.lines import line_blocks
from cortex.domain.batch import MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from cortex.domain.errors import (
    ApiNotFound,
    Conflict,
    InvalidConfiguration,
    InvalidSubmission,
    JobFailed,
    JobNotFound,
    NotFound,
    OperatorUnreachable,
)

JOB = "69d6faf82e4660d3"
SUBMIT = "POST /digits"
STATUS = f"GET /digits/{JOB}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as somebody without any environment and outside of a worker."""
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "cortex"))
    monkeypatch.delenv("CORTEX_OPERATOR_ENDPOINT", raising=False)
    monkeypatch.delenv("CORTEX_API_KEY", raising=False)
    working = tmp_path / "work"
    working.mkdir()
    monkeypatch.chdir(working)
    return working


@pytest.fixture
def operator() -> Iterator[StubOperator]:
    with StubOperator() as stub:
        use(stub)
        stub.api("digits")
        stub.answers[SUBMIT] = {"job_id": JOB}
        yield stub


@pytest.fixture
def client(operator: StubOperator) -> Iterator[cortex.Client]:
    with cortex.client("stub") as client:
        yield client


@pytest.fixture
def job(client: cortex.Client) -> cortex.Job:
    return client.job("digits", JOB)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look without a pause between."""
    monkeypatch.setattr(waiting, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(waiting, "LONGEST_PAUSE_SECONDS", 0)


def submitted(operator: StubOperator) -> Any:
    """Give the last request that was submitted."""
    return json.loads([request.body for request in operator.requests if request.line == SUBMIT][-1])


def status(succeeded: int = 0, *, failed: int = 0, is_over: bool = False, **changes: Any) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "api_name": "digits",
        "workers": 1,
        "api_id": "v1",
        "status": "status_succeeded" if is_over else "status_running",
        "total_batch_count": 10,
        "batch_metrics": {"succeeded": succeeded, "failed": failed},
        "created_time": "2020-07-20T01:07:40Z",
        "start_time": "2020-07-20T01:07:44Z",
        **({"end_time": "2020-07-20T01:11:10Z"} if is_over else {}),
    } | changes


def show(operator: StubOperator, *states: dict[str, Any]) -> None:
    """Let the operator tell these states of the job, one after the other."""
    operator.job(*states, api="digits")


# Which operator


def test_without_a_name_it_is_the_default_environment(operator: StubOperator) -> None:
    with cortex.client() as client:
        assert operator.address == client.address
        assert ["digits"] == [api["name"] for api in client.apis()]


def test_in_a_worker_it_is_the_operator_of_its_job_with_the_token_of_that(
    operator: StubOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_OPERATOR_ENDPOINT", "http://127.0.0.1:9")
    with cortex.client("stub") as named:
        assert operator.address == named.address

    monkeypatch.setenv("CORTEX_OPERATOR_ENDPOINT", operator.address)
    monkeypatch.setenv("CORTEX_API_KEY", "token-of-the-job")
    with cortex.client() as client:
        client.apis()

    assert "Bearer token-of-the-job" == operator.requests[-1].headers["Authorization"]


def test_an_environment_that_is_not_there_is_named_with_those_that_are(operator: StubOperator) -> None:
    with pytest.raises(NotFound, match="there is no environment `prod`; there is `local`, `stub`"):
        cortex.client("prod")


def test_a_key_of_the_environment_is_sent(operator: StubOperator) -> None:
    environment = Environment(name="prod", operator_endpoint=operator.address, api_key="secret")

    with cortex.Client(client_of(environment, operator.address)) as client:
        client.apis()

    assert "Bearer secret" == operator.requests[-1].headers["Authorization"]


# Deploy


def deploy_files(folder: Path) -> None:
    (folder / "cortex.yaml").write_text("- name: digits\n")
    (folder / "predictor.py").write_text("class PythonPredictor: ...\n")


def test_deploy_sends_the_configuration_with_its_folder_and_says_what_became_of_it(
    operator: StubOperator, client: cortex.Client, folder: Path
) -> None:
    deploy_files(folder)
    deployed = [{"api": {"name": "digits"}, "message": "created digits (BatchAPI)", "error": ""}]
    operator.answers["POST /_cortex/deploy"] = deployed

    assert deployed == client.deploy()
    assert b"- name: digits" in operator.requests[-1].body
    assert b'filename="cortex.yaml"' in operator.requests[-1].body


def test_deploy_may_send_another_folder(operator: StubOperator, client: cortex.Client, folder: Path) -> None:
    (folder / "there").mkdir()
    deploy_files(folder)
    (folder / "predictor.py").rename(folder / "there" / "predictor.py")
    (folder / "large.bin").write_bytes(b"not part of it")
    operator.answers["POST /_cortex/deploy"] = []

    client.deploy(folder / "cortex.yaml", project="there")

    assert b"predictor.py" in operator.requests[-1].body
    assert b"large.bin" not in operator.requests[-1].body


def test_deploy_raises_for_what_was_not_deployed(operator: StubOperator, client: cortex.Client, folder: Path) -> None:
    deploy_files(folder)
    operator.answers["POST /_cortex/deploy"] = [{"api": {"name": "digits"}, "message": "", "error": "no room"}]

    with pytest.raises(cortex.CortexError, match="no room"):
        client.deploy()
    with pytest.raises(InvalidConfiguration, match=r"there is no `nosuch\.yaml`"):
        client.deploy("nosuch.yaml")


# Submit


def test_items_are_any_iterable_of_json_values(operator: StubOperator, client: cortex.Client) -> None:
    job = client.submit("digits", items=(each for each in ("ä", 1.5, None, {"a": [True]}, "\ud800")), batch_size=2)

    assert (JOB, "digits") == (job.id, job.api)
    items = ["ä", 1.5, None, {"a": [True]}, "\ud800"]
    assert {"workers": 1, "item_list": {"items": items, "batch_size": 2}} == submitted(operator)


def test_an_elastic_job_says_its_least_and_its_most(operator: StubOperator, client: cortex.Client) -> None:
    client.submit("digits", items=[1], batch_size=1, workers={"min": 2, "max": 8})

    assert {"min": 2, "max": 8} == submitted(operator)["workers"]


def test_options_go_as_they_are_and_only_those_that_are_given(operator: StubOperator, client: cortex.Client) -> None:
    client.submit(
        "digits",
        items=[1],
        batch_size=1,
        workers=4,
        config={"a": 1},
        retries={"attempts": 3, "backoff": "2s", "no_retry": ["ValueError"]},
        batch_timeout=1.5,
        timeout=None,
        max_failures="5%",
        on_failed_batch="isolate",
        results={"path": "s3://b/out", "format": "csv"},
    )

    assert {
        "workers": 4,
        "item_list": {"items": [1], "batch_size": 1},
        "config": {"a": 1},
        "retries": {"attempts": 3, "backoff": "2s", "no_retry": ["ValueError"]},
        "batch_timeout": 1.5,
        "timeout": None,
        "max_failures": "5%",
        "on_failed_batch": "isolate",
        "results": {"path": "s3://b/out", "format": "csv"},
    } == submitted(operator)


def test_a_whole_request_goes_as_it_is(operator: StubOperator, client: cortex.Client) -> None:
    request = {"workers": 2, "item_list": {"items": ["a"], "batch_size": 1}, "retries": 1}

    client.submit("digits", request, idempotency_key="monday")

    assert request == submitted(operator)
    assert "monday" == operator.requests[-1].headers["Idempotency-Key"]


def test_urls_are_files_for_the_operator(operator: StubOperator, client: cortex.Client) -> None:
    client.submit("digits", files="s3://b/images/", includes=["**.jpg"], excludes=["**.tmp.jpg"], batch_size=8)
    files = submitted(operator)
    client.submit("digits", lines=["s3://b/a", "gs://c/d"])
    lines = submitted(operator)

    section = {"s3_paths": ["s3://b/images/"], "includes": ["**.jpg"], "excludes": ["**.tmp.jpg"], "batch_size": 8}
    assert {"workers": 1, "file_path_lister": section} == files
    assert {"workers": 1, "delimited_files": {"s3_paths": ["s3://b/a", "gs://c/d"], "batch_size": 1}} == lines


def test_files_here_that_the_operator_does_not_see_are_uploaded(
    operator: StubOperator, client: cortex.Client, folder: Path
) -> None:
    operator.answers["GET /_cortex/info"] = {"data_dir": "/nowhere", "instance": "another"}
    (folder / "items.jsonl").write_text("1\n2\n")

    client.submit("digits", lines=Path("items.jsonl"), batch_size=2)

    (path,) = submitted(operator)["delimited_files"]["s3_paths"]
    assert re.fullmatch(r"upload://[0-9a-f]{32}/items\.jsonl", path)
    assert [b"1\n2\n"] == list(operator.uploads.values())


def items_beyond_a_request() -> Iterator[str]:
    return (f"{number:06}" + "x" * 99_990 for number in range(MAX_REQUEST_BYTES // 99_990 + 1))


def test_items_too_large_for_a_request_are_uploaded_as_lines(operator: StubOperator, client: cortex.Client) -> None:
    client.submit("digits", items=items_beyond_a_request(), batch_size=3, workers=2, idempotency_key="monday")
    first = submitted(operator)
    operator.uploads.clear()
    client.submit("digits", items=items_beyond_a_request(), batch_size=3, workers=2, idempotency_key="monday")
    again = submitted(operator)
    client.submit("digits", items=items_beyond_a_request(), batch_size=3, workers=2)
    without_key = submitted(operator)

    content = "".join(f"{json.dumps(item)}\n" for item in items_beyond_a_request()).encode()
    upload_id = hashlib.sha256(b"monday" + content).hexdigest()[:32]
    section = {"s3_paths": [f"upload://{upload_id}/items.jsonl"], "batch_size": 3}
    assert {"workers": 2, "delimited_files": section} == first
    assert first == again
    assert first != without_key
    assert operator.uploads[f"/_cortex/uploads/{upload_id}/items.jsonl"] == content


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([1, float("nan")], r"`items\[1\]` cannot be written as JSON: Out of range float values"),
        ([{1, 2}], r"`items\[0\]` cannot be written as JSON: Object of type set"),
        ([1, "x" * MAX_BATCH_BYTES], r"`items\[1\]` has 262146 bytes as JSON; an item must have less than 262144"),
    ],
)
def test_an_item_that_cannot_be_one_is_named_before_there_is_a_job(
    operator: StubOperator, client: cortex.Client, items: list[Any], message: str
) -> None:
    with pytest.raises(InvalidSubmission, match=message) as error:
        client.submit("digits", items=items, batch_size=1)

    assert error.value.hint
    assert SUBMIT not in [request.line for request in operator.requests]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one dataset: `items`, `files` or `lines`"),
        ({"items": [1], "lines": "a"}, "one dataset"),
        ({"items": [1]}, "needs `batch_size`: how many items `predict` gets at a time"),
        ({"files": "s3://b/"}, "needs `batch_size`"),
        ({"items": "abc", "batch_size": 1}, "`items` is a str, but must be a list, or another iterable, of JSON"),
        ({"items": {"a": 1}, "batch_size": 1}, "`items` is a dict"),
        ({"items": [1], "batch_size": 1, "includes": ["*"]}, "`includes` and `excludes` choose among files"),
        ({"items": [1], "batchsize": 1}, "unexpected keyword argument `batchsize`"),
        ({"request": {"workers": 1}, "workers": 2}, "takes `request`, which is a whole job, or `workers`"),
    ],
)
def test_arguments_that_do_not_go_together_are_a_type_error(
    operator: StubOperator, client: cortex.Client, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        client.submit("digits", **options)

    assert SUBMIT not in [request.line for request in operator.requests]


@pytest.mark.parametrize("name", ["workers", "batch_size"])
@pytest.mark.parametrize("value", [None, 0, "2", 1.5])
def test_a_number_that_is_none_is_named_before_there_is_a_job(
    operator: StubOperator, client: cortex.Client, name: str, value: Any
) -> None:
    options: Any = {"lines": "s3://b/k", "batch_size": 1, name: value}

    with pytest.raises(InvalidSubmission, match=f"`{name}`: got `{value}`, must be a whole number, at least 1"):
        client.submit("digits", **options)

    assert SUBMIT not in [request.line for request in operator.requests]


@pytest.mark.parametrize("paths", ["", [""]])
def test_an_empty_path_is_not_the_current_folder(client: cortex.Client, paths: Any) -> None:
    with pytest.raises(InvalidSubmission, match="a path is empty"):
        client.submit("digits", lines=paths)


def test_an_api_that_is_not_deployed(client: cortex.Client) -> None:
    with pytest.raises(ApiNotFound) as error:
        client.submit("iris", items=[1], batch_size=1)

    assert ("`iris` is not deployed", "`apis()` lists the APIs that are") == (error.value.message, error.value.hint)


def test_a_refusal_has_the_message_and_the_hint_of_the_operator(operator: StubOperator, client: cortex.Client) -> None:
    operator.answers[SUBMIT] = Refusal(400, "submission.invalid", "workers: got `0`\n\nhint: leave it out")

    with pytest.raises(InvalidSubmission) as error:
        client.submit("digits", items=[1], batch_size=1)

    assert ("workers: got `0`", "leave it out") == (error.value.message, error.value.hint)


# A job


def test_what_a_job_gave_comes_as_python_values(operator: StubOperator, job: cortex.Job) -> None:
    failure = {"batch_id": "b", "first_item": 0, "items": 2, "type": "ValueError", "message": "no"}
    operator.answers |= {
        f"{STATUS}/results": '{"a": "ä"}\n[1]\nnull\n'.encode(),
        f"{STATUS}/results?follow=true": b"1\n2\n",
        f"{STATUS}/failures": json.dumps(failure).encode() + b"\n",
        f"{STATUS}/failures?items=true": b'{"batch_id": "b", "items": [1, "x"]}\n{"batch_id": "c", "items": [null]}\n',
        f"{STATUS}/manifest": b'{"kind": "job"}\n{"kind": "total"}\n',
        f"{STATUS}/logs": "began\n\nä\nhalf a li".encode(),
    }

    assert [{"a": "ä"}, [1], None] == list(job.results())
    assert [1, 2] == list(job.results(follow=True))
    assert [failure] == list(job.failures())
    assert [1, "x", None] == list(job.failed_items())
    assert ["job", "total"] == [entry["kind"] for entry in job.manifest()]
    assert ["began", "", "ä", "half a li"] == list(job.logs())
    assert b'{"a": "\xc3\xa4"}\n[1]\nnull\n' == b"".join(job.stream("results"))


def test_lines_are_whole_wherever_the_pieces_end() -> None:
    text = b"one\n\ntwo\nthree"

    for size in range(1, len(text) + 1):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        blocks = list(line_blocks(pieces))
        assert [b"one", b"", b"two", b"three"] == [line for block in blocks for line in block]
    assert [] == list(line_blocks([]))
    assert [[b"one"]] == list(line_blocks([b"one\n"]))


def test_a_line_is_given_when_it_is_there(operator: StubOperator, job: cortex.Job) -> None:
    has_first = threading.Event()

    def in_two_parts(handler: BaseHTTPRequestHandler) -> None:
        begin_chunks(handler)
        send_chunk(handler, b'"first"\n"sec')
        assert has_first.wait(60)
        send_chunk(handler, b'ond"\n')
        send_chunk(handler, b"")

    operator.answers[f"{STATUS}/results?follow=true"] = in_two_parts

    rows = job.results(follow=True)
    first = next(rows)
    has_first.set()

    assert ["first", "second"] == [first, *rows]


def test_what_can_be_done_with_a_job(operator: StubOperator, job: cortex.Job) -> None:
    verification = {"job_id": JOB, "is_complete": True, "is_intact": True, "checked": {}, "problems": []}
    operator.answers |= {
        f"DELETE /digits/{JOB}": {"message": f"stopped job {JOB}"},
        f"POST /digits/{JOB}/pause": {"message": f"paused job {JOB}"},
        f"POST /digits/{JOB}/resume": {"message": f"resumed job {JOB}"},
        f"{STATUS}/verify": verification,
    }

    assert f"stopped job {JOB}" == job.stop()
    assert f"paused job {JOB}" == job.pause()
    assert f"resumed job {JOB}" == job.resume()
    assert verification == job.verify()


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ({}, {"what": "failed", "version": "current"}),
        ({"all": True, "workers": 3}, {"what": "all", "version": "current", "workers": 3}),
        (
            {"workers": {"min": 1, "max": 3}},
            {"what": "failed", "version": "current", "workers": {"min": 1, "max": 3}},
        ),
        ({"hook": True, "original": True}, {"what": "hook", "version": "original"}),
    ],
)
def test_a_rerun_is_a_job_of_its_own(
    operator: StubOperator, job: cortex.Job, options: dict[str, Any], body: dict[str, Any]
) -> None:
    operator.answers[f"POST /digits/{JOB}/rerun"] = {"job_id": "2", "rerun_of": JOB}

    again = job.rerun(**options, idempotency_key="monday")

    assert ("2", "digits", job.endpoint) == (again.id, again.api, again.endpoint)
    assert body == json.loads(operator.requests[-1].body)
    assert "monday" == operator.requests[-1].headers["Idempotency-Key"]


def test_what_makes_no_sense_raises(operator: StubOperator, job: cortex.Job) -> None:
    operator.answers[f"POST /digits/{JOB}/rerun"] = Refusal(409, "conflict", "nothing has failed")

    with pytest.raises(Conflict, match="nothing has failed"):
        job.rerun()
    with pytest.raises(TypeError, match="`all` or `hook`"):
        job.rerun(all=True, hook=True)
    with pytest.raises(TypeError, match="`manifest` cannot be followed"):
        job.stream("manifest", follow=True)


def test_a_job_that_is_not_there(operator: StubOperator, job: cortex.Job) -> None:
    operator.answers[STATUS] = Refusal(404, "job.not_found", "there is no job")

    for ask in (job.status, job.wait):
        with pytest.raises(JobNotFound):
            ask()


def test_leaving_an_iteration_closes_its_connection(operator: StubOperator, job: cortex.Job) -> None:
    has_hung_up = threading.Event()

    def endless(handler: BaseHTTPRequestHandler) -> None:
        begin_chunks(handler)
        with suppress(OSError):
            while True:
                send_chunk(handler, b'"row"\n')
        has_hung_up.set()

    operator.answers[f"{STATUS}/results?follow=true"] = endless

    for row in job.results(follow=True):
        assert "row" == row
        break

    assert has_hung_up.wait(60)


# Wait


def test_wait_gives_the_last_status_and_is_silent_off_a_terminal(
    operator: StubOperator, job: cortex.Job, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    show(operator, status(), status(3), status(10, is_over=True))

    assert status(10, is_over=True) == job.wait()
    assert status(10, is_over=True) == job.wait(progress=False)
    assert ("", "") == capsys.readouterr()


def test_progress_is_lines_where_it_is_asked_for(
    operator: StubOperator, job: cortex.Job, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    show(operator, status(), status(10, is_over=True))

    job.wait(progress=True)

    assert ["running: 0/10 batches", "succeeded: 10/10 batches in 3m26s"] == capsys.readouterr().err.splitlines()


def test_a_function_sees_every_status(operator: StubOperator, job: cortex.Job, impatient: None) -> None:
    show(operator, status(), status(3), status(10, is_over=True))
    seen: list[int] = []

    job.wait(progress=lambda job: seen.append(job["batch_metrics"]["succeeded"]))

    assert [0, 3, 10] == seen


def test_a_bar_is_drawn_where_somebody_looks(
    operator: StubOperator,
    job: cortex.Job,
    impatient: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_can_draw", lambda: True)
    show(operator, status(), status(10, is_over=True))

    job.wait()
    drawn = capsys.readouterr().err
    job.wait(progress=False)

    assert "10/10 in 3m26s" in drawn
    assert "" == capsys.readouterr().err


def test_what_a_function_for_the_progress_raises_ends_the_wait(
    operator: StubOperator, job: cortex.Job, impatient: None
) -> None:
    show(operator, status())

    def stop(_: object) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        job.wait(progress=stop)


def test_a_wait_that_takes_too_long_says_how_far_the_job_is(operator: StubOperator, job: cortex.Job) -> None:
    show(operator, status(3))

    with pytest.raises(TimeoutError, match=r"has not ended in 0\.01 s \(running: 3/10 batches\); it goes on"):
        job.wait(timeout=0.01)


def asked_to_wait(operator: StubOperator) -> list[float]:
    """Give for how long each request for the status has asked to be answered at the end of the job, 0 for not."""
    lines = [request.line for request in operator.requests if request.line.startswith(STATUS)]
    return [float(line.partition("?wait=")[2] or 0) for line in lines]


@pytest.mark.parametrize(("shown", "longest"), [(True, 1.0), (False, 30.0)])
def test_the_operator_is_asked_to_tell_of_the_end_and_less_often_where_nobody_looks(
    operator: StubOperator, job: cortex.Job, monkeypatch: pytest.MonkeyPatch, *, shown: bool, longest: float
) -> None:
    monkeypatch.setattr(waiting, "pause", lambda _: None)
    show(operator, *[status()] * 20, status(is_over=True))

    job.wait(progress=shown)

    waits = asked_to_wait(operator)
    assert [0, 0.05, 0.075] == waits[:3]
    assert sorted(waits) == waits
    assert longest == waits[-1]


def test_an_operator_that_answers_at_once_is_not_asked_again_at_once(
    operator: StubOperator, job: cortex.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(waiting, "pause", pauses.append)
    monkeypatch.setattr(waiting, "FIRST_PAUSE_SECONDS", 1000.0)
    show(operator, status(), status(), status(is_over=True))

    job.wait(progress=False)

    assert [0.0] == pauses[:1]
    assert pauses[1] > 900


def test_with_check_only_success_is_an_end(operator: StubOperator, job: cortex.Job, impatient: None) -> None:
    failed = status(9, failed=1, is_over=True, status="status_worker_error", status_reason="`__init__` raised")
    show(operator, failed)

    assert failed == job.wait()
    with pytest.raises(JobFailed, match=r"ended: worker error: `__init__` raised") as error:
        job.wait(check=True)

    assert "`logs()` of the job gives its log, `failures()` why batches failed" == error.value.hint


def test_wait_outlives_a_restart_but_not_the_end_of_an_operator(
    operator: StubOperator, job: cortex.Job, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.answers[STATUS] = Then(cut_off(), cut_off(), {"job_status": status(is_over=True), "endpoint": ""})
    assert "status_succeeded" == job.wait()["status"]

    monkeypatch.setattr(waiting, "PATIENCE_SECONDS", 0)
    operator.answers[STATUS] = cut_off()
    with pytest.raises(OperatorUnreachable, match="went away") as error:
        job.wait()
    assert "the job goes on once the operator is back" == error.value.hint


def test_without_rich_there_are_lines_instead_of_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec: Callable[[str], Any] = progress.find_spec
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert progress._can_draw()

    monkeypatch.setattr(progress, "find_spec", lambda name: None if name == "rich" else find_spec(name))
    assert not progress._can_draw()


def test_public_names_are_there_and_no_others() -> None:
    assert "Client" == cortex.Client.__name__
    with pytest.raises(AttributeError, match="`Klient`"):
        _ = cortex.Klient  # type: ignore[attr-defined]
