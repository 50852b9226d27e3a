"""The commands for APIs that answer at once: what they show, send and say."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click import unstyle
from stub_operator import Refusal, StubOperator, answer_with, cortex, served_by

from cortex.cli.predict import _write
from cortex.cli.views import api_view, apis_view
from cortex.clients.predicting import Prediction

NOW = datetime.fromisoformat("2020-07-20T01:11:10.5Z")
UPDATED = {"last_updated": "2020-07-20T01:00:00Z"}


def info(**served: Any) -> Any:
    environment = {"status": "none", "message": ""}
    return (
        {"spec": {}, "api_id": "v1", "endpoint": "E", "environment": environment, "job_statuses": []} | UPDATED | served
    )


# What is shown


def test_each_kind_of_api_has_a_table_of_its_own() -> None:
    apis: Any = [
        ("local", {"name": "split", "apis": [{"name": "iris", "weight": 90}, {"name": "b", "weight": 10}], **UPDATED}),
        ("local", {"name": "iris", **UPDATED, **served_by(2, 3, status="updating", counts=(7, 0, 0), latency=1.25)}),
        ("prod", {"name": "batch", "running_jobs": 1, "latest_job": None, **UPDATED}),
        ("prod", {"name": "iris-2", **UPDATED, **served_by(0, 1, status="error", failed=1)}),
    ]
    expected = """\
env    batch api   running jobs   latest job id   last update
prod   batch       1              -               11m

env     realtime api   status     up-to-date   requested   failed   last update   avg request   2XX
local   iris           updating   2            3           -        11m           1.25 ms       7
prod    iris-2         error      0            1           1        11m           -             -

env     traffic splitter   apis           last update
local   split              iris:90 b:10   11m"""

    assert expected == unstyle(apis_view(apis, NOW, with_environments=True))


def test_columns_of_what_goes_wrong_show_where_there_is_a_count() -> None:
    api = info(**served_by(1, 2, stale=2, failed=1, counts=(3, 2, 1), latency=2345.678912))
    expected = """\
status   up-to-date   stale   requested   failed   last update   avg request   2XX   4XX   5XX
live     1            2       2           1        11m           2.34568 s     3     2     1

endpoint: E

example curl: curl E -X POST -H "Content-Type: application/json" -d @sample.json"""

    assert expected == unstyle(api_view(api, NOW))


def test_why_an_api_does_not_answer_is_shown_below_its_status() -> None:
    served = served_by(0, status="oom", message="its processes ran out of memory")
    expected = """\
status                  up-to-date   requested   last update   avg request   2XX
error (out of memory)   0            1           11m           -             -

its processes ran out of memory

endpoint: E"""

    assert unstyle(api_view(info(**served), NOW)).startswith(expected)


def test_an_environment_that_failed_is_told_once() -> None:
    served = served_by(0, status="error", message="no replica can be started: no such package")
    environment = {"status": "failed", "message": "no such package"}

    shown = unstyle(api_view(info(**served, environment=environment), NOW))

    assert "\n\nenvironment: failed\nno such package\n\nendpoint: E" in shown
    assert 1 == shown.count("no such package")


def test_a_splitter_shows_its_weights() -> None:
    apis = [{"name": "a", "weight": 5}, {"name": "bee", "weight": 95}]
    expected = """\
api   weight
a     5%
bee   95%

last update: 11m ago

endpoint: E"""

    assert unstyle(api_view(info(apis=apis), NOW)).startswith(expected)


def test_get_as_json_has_status_and_metrics(stub: StubOperator) -> None:
    endpoint = stub.realtime_api("iris")

    (found,) = json.loads(cortex("get", "iris", "-o", "json").stdout)

    assert {"spec", "endpoint", "status", "metrics"} == set(found)
    assert (endpoint, "status_live") == (found["endpoint"], found["status"]["status_code"])


def test_a_realtime_api_has_no_jobs(stub: StubOperator) -> None:
    stub.realtime_api("iris")

    submit = ["submit", "iris", "--items", "-", "--batch-size", "1"]
    for words in (submit, ["get", "iris", "69d6faf82e4660d3"], ["results", "iris", "69d6faf82e4660d3"]):
        result = cortex(*words, input="1")

        assert 1 == result.exit_code
        assert "error: `iris` is a RealtimeAPI: it has no jobs" in result.stderr
        assert "hint: `cortex predict iris FILE` sends it a request" in result.stderr
    assert not [request for request in stub.requests if request.line.startswith("POST")]


# predict


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("sample.json", "application/json"),
        ("SAMPLE.JSON", "application/json"),
        ("cat.jpg", "image/jpeg"),
        ("note.txt", "text/plain"),
        ("unknown.nosuch", "application/octet-stream"),
        ("packed.json.gz", "application/octet-stream"),
    ],
)
def test_predict_sends_a_file_as_what_it_is(stub: StubOperator, folder: Path, name: str, content_type: str) -> None:
    stub.realtime_api("iris")
    stub.answers["POST /iris"] = answer_with(b"setosa", "text/plain; charset=utf-8")
    (folder / name).write_bytes(b'{"a": \xff}')

    result = cortex("predict", "iris", name)

    assert (0, "setosa\n") == (result.exit_code, result.stdout)
    assert content_type == stub.requests[-1].headers["Content-Type"]
    assert b'{"a": \xff}' == stub.requests[-1].body


def test_predict_sends_stdin_without_a_type(stub: StubOperator) -> None:
    stub.realtime_api("iris")
    stub.answers["POST /iris"] = answer_with(b"[1,2]", "application/json")

    result = cortex("predict", "iris", "-", input='{"a": 1}')

    assert (0, "[1,2]\n") == (result.exit_code, result.stdout)
    assert "Content-Type" not in stub.requests[-1].headers


def test_predict_writes_octets_as_they_are(stub: StubOperator) -> None:
    stub.realtime_api("iris")
    stub.answers["POST /iris"] = answer_with(b"\x00\xff", "application/octet-stream")

    assert b"\x00\xff" == cortex("predict", "iris", "-", input="").stdout_bytes


def test_json_is_laid_out_for_people(monkeypatch: pytest.MonkeyPatch, capfdbinary: Any) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    _write(Prediction(content_type="application/json", body='{"a":["é"]}'.encode()))

    assert '{\n  "a": [\n    "é"\n  ]\n}\n'.encode() == capfdbinary.readouterr().out


@pytest.mark.parametrize(
    ("served", "said"),
    [
        (served_by(0, status="updating"), "no replica of `iris` is ready yet: the request waits for one\n"),
        (served_by(0, 0), "no replica of `iris` is ready yet: the request waits for one\n"),
        (served_by(1, 2, status="updating"), ""),
        (served_by(0, stale=1, status="updating"), ""),
        (served_by(0, failed=1, status="error"), ""),
    ],
)
def test_predict_says_that_the_request_has_to_wait_for_a_replica(
    stub: StubOperator, served: dict[str, Any], said: str
) -> None:
    stub.realtime_api("iris", **served)
    stub.answers["POST /iris"] = answer_with(b"1", "application/json")

    result = cortex("predict", "iris", "-", input="1")

    assert (0, "1\n") == (result.exit_code, result.stdout)
    assert f"using stub environment\n{said}" == result.stderr


def test_predict_waits_no_longer_than_it_is_told(stub: StubOperator) -> None:
    stub.realtime_api("iris")
    stub.answers["POST /iris"] = lambda handler: handler.rfile.read(1)  # nothing comes until the command has ended

    result = cortex("predict", "iris", "-", "--timeout", "50ms", input="1")

    assert 1 == result.exit_code
    assert "error: no answer came within 50ms\n\nhint: " in result.stderr


@pytest.mark.parametrize("timeout", ["soon", "0s"])
def test_a_timeout_that_is_none_is_refused(stub: StubOperator, timeout: str) -> None:
    result = cortex("predict", "iris", "-", "--timeout", timeout, input="1")

    assert (2, []) == (result.exit_code, stub.requests)
    assert f"invalid value for `--timeout`: got `{timeout}`, must be " in result.stderr


def test_predict_says_what_the_api_refuses(stub: StubOperator) -> None:
    stub.realtime_api("iris")
    stub.answers["POST /iris"] = Refusal(500, "predict.failed", "`predict` raised ValueError\n\nhint: look")
    refused = cortex("predict", "iris", "-", input="1")
    stub.answers["POST /iris"] = answer_with(b"short and stout", "text/plain", 418)
    own = cortex("predict", "iris", "-", input="1")

    assert (1, "") == (refused.exit_code, refused.stdout)
    assert refused.stderr.endswith("error: `predict` raised ValueError\n\nhint: look\n")
    assert (1, "") == (own.exit_code, own.stdout)
    assert "error: `/iris` answered 418 I'm a Teapot: short and stout" in own.stderr


def test_predict_of_a_batch_api_or_of_no_file_sends_nothing(stub: StubOperator, folder: Path) -> None:
    stub.api("digits")

    batch, nowhere = cortex("predict", "digits", "-", input="1"), cortex("predict", "digits", "nosuch.json")

    assert "error: `digits` is a BatchAPI: it takes jobs, and no single requests" in batch.stderr
    assert "cortex submit digits --items FILE" in batch.stderr
    assert (1, 1) == (batch.exit_code, nowhere.exit_code)
    assert "error: `nosuch.json` cannot be read: No such file or directory" in nowhere.stderr
    assert [] == list(folder.iterdir())
    assert not [request for request in stub.requests if request.line.startswith("POST")]


# logs, refresh, deploy


def test_logs_of_a_realtime_api_are_followed_unless_they_are_not(stub: StubOperator) -> None:
    stub.realtime_api("iris")
    stub.answers["GET /_cortex/apis/iris/logs?follow=true"] = b"one\ntwo\n"
    stub.answers["GET /_cortex/apis/iris/logs"] = b"one\n"

    assert "one\ntwo\n" == cortex("logs", "iris").stdout
    assert "one\n" == cortex("logs", "iris", "--no-follow").stdout


def test_refresh_says_what_the_operator_says(stub: StubOperator) -> None:
    stub.answers["POST /_cortex/apis/iris/refresh"] = {"message": "updating iris (RealtimeAPI)"}

    assert "updating iris (RealtimeAPI)\n" == cortex("refresh", "iris").stdout


def test_deploy_of_a_realtime_api_says_how_to_ask_it(stub: StubOperator, folder: Path) -> None:
    (folder / "cortex.yaml").write_text("")
    api = {"name": "iris", "kind": "RealtimeAPI", "endpoint": "E", "api_id": "v1"}
    stub.answers["POST /_cortex/deploy"] = [{"api": api, "message": "created iris (RealtimeAPI)", "error": ""}]

    result = cortex("deploy")

    assert "created iris (RealtimeAPI)\n" == result.stdout
    for words in ("cortex get iris", "cortex logs iris", "cortex predict iris FILE"):
        assert words in result.stderr
    assert "submit" not in result.stderr
