"""What `cortex submit` asks for besides the dataset, as options of the command."""

import json
from pathlib import Path
from typing import Any

import pytest
from stub_operator import StubOperator, cortex

JOB = "69d6faf82e4660d3"
SUBMIT = "POST /digits"


pytestmark = pytest.mark.usefixtures("configuration", "folder")


@pytest.fixture
def operator(digits: StubOperator) -> StubOperator:
    return digits


def asked(operator: StubOperator, *options: str) -> Any:
    """Submit with these options; give what the request says besides workers and dataset."""
    result = cortex("submit", "digits", "--lines", "s3://b/k", *options)
    assert result.exit_code == 0, result.output
    (body,) = [request.body for request in operator.requests if request.line == SUBMIT]
    return {name: value for name, value in json.loads(body).items() if name not in ("workers", "delimited_files")}


def test_without_options_the_defaults_of_the_api_hold(operator: StubOperator) -> None:
    assert {} == asked(operator)


def test_every_option_becomes_a_field_of_the_request(operator: StubOperator) -> None:
    options = [
        *("--retries", "2", "--backoff", "500ms", "--no-retry", "ValueError", "--no-retry", "a.B"),
        *("--batch-timeout", "30", "--timeout", "2h", "--max-failures", "5%", "--on-failed-batch", "isolate"),
        *("--results", "s3://bucket/out", "--results-format", "csv", "--include-input", "--config", "a=1"),
    ]

    expected = {
        "config": {"a": 1},
        "retries": {"attempts": 3, "backoff": "500ms", "no_retry": ["ValueError", "a.B"]},
        "batch_timeout": "30",
        "timeout": "2h",
        "max_failures": "5%",
        "on_failed_batch": "isolate",
        "results": {"path": "s3://bucket/out", "format": "csv", "include_input": True},
    }
    assert expected == asked(operator, *options)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["--retries", "0"], {"retries": {"attempts": 1}}),
        (["--no-retry", "KeyError"], {"retries": {"no_retry": ["KeyError"]}}),
        (["--max-failures", "0"], {"max_failures": 0}),
        (["--max-failures", "none"], {"max_failures": None}),
        (["--max-failures", "few"], {"max_failures": "few"}),
        (["--batch-timeout", "none", "--timeout", "none"], {"batch_timeout": None, "timeout": None}),
        (["--on-failed-batch", "fail"], {"on_failed_batch": "fail"}),
        (["--results-format", "parquet"], {"results": {"format": "parquet"}}),
        (["--include-input"], {"results": {"include_input": True}}),
        (["--results", "none"], {"results": None}),
        (["--results", "file:///out"], {"results": {"path": "file:///out"}}),
    ],
)
def test_only_what_is_said_is_in_the_request(
    operator: StubOperator, options: list[str], fields: dict[str, Any]
) -> None:
    assert fields == asked(operator, *options)


def test_items_are_submitted_with_options_too(operator: StubOperator) -> None:
    result = cortex("submit", "digits", "--items", "-", "--batch-size", "1", "--retries", "1", input="1\n")

    assert result.exit_code == 0, result.output
    expected = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "retries": {"attempts": 2}}
    assert expected == json.loads(operator.requests[-1].body)


def test_a_file_holds_its_options_itself(operator: StubOperator, folder: Path) -> None:
    request = {
        "workers": 1,
        "item_list": {"items": [1], "batch_size": 1},
        "retries": 2,
        "timeout": None,
        "results": {"path": "/out", "format": "csv"},
    }
    (folder / "job.json").write_text(json.dumps(request))

    result = cortex("submit", "digits", "job.json")

    assert result.exit_code == 0, result.output
    assert request == json.loads(operator.requests[-1].body)


def test_results_go_to_a_folder_here_where_the_operator_sees_it(operator: StubOperator, folder: Path) -> None:
    data = folder.parent / "data"
    data.mkdir()
    (data / "operator.json").write_text(json.dumps({"instance": "abc"}))
    operator.answers["GET /_cortex/info"] = {"data_dir": str(data), "instance": "abc"}

    assert {"results": {"path": str(folder / "out")}} == asked(operator, "--results", "out")


@pytest.mark.parametrize("path", ["out", "/data/out"])
def test_results_do_not_go_to_a_folder_that_only_has_the_same_name(operator: StubOperator, path: str) -> None:
    operator.answers["GET /_cortex/info"] = {"data_dir": "/nowhere", "instance": "abc"}

    result = cortex("submit", "digits", "--lines", "s3://b/k", "--results", path)

    assert result.exit_code == 1
    assert f"\nerror: --results {path}: the operator does not see the folders of this machine\n" in result.stderr
    assert "`file:///path` is a folder of the operator's machine" in result.stderr
    assert not any(request.line == SUBMIT for request in operator.requests)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--retries", "-1"], "invalid value for `--retries`: -1 is not in the range 0<=x<=999"),
        (["--retries", "1000"], "invalid value for `--retries`: 1000 is not in the range 0<=x<=999"),
        (["--backoff", "soon"], "invalid value for `--backoff`: got `soon`, must be a number of seconds, or text"),
        (["--backoff", "none"], "invalid value for `--backoff`: got `none`, must be a number of seconds, or text"),
        (
            ["--results", "none", "--results-format", "csv"],
            "--results-format says how results are written, and `--results none` that they are not",
        ),
        (["--timeout", "1y"], "invalid value for `--timeout`: got `1y`, must be a number of seconds, or text such as"),
        (["--batch-timeout", "99999d"], "invalid value for `--batch-timeout`: got `99999d`, must be at most `36500d`"),
        (
            ["--on-failed-batch", "skip"],
            "invalid value for `--on-failed-batch`: `skip` is not one of `fail`, `isolate`",
        ),
        (["--results-format", "xml"], "invalid value for `--results-format`: `xml` is not one of `jsonl`, `csv`, `"),
    ],
)
def test_a_mistake_is_told_before_anyone_is_asked(operator: StubOperator, words: list[str], message: str) -> None:
    result = cortex("submit", "digits", "--lines", "s3://b/k", *words)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {message}")
    assert operator.requests == []


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--retries", "0"], "--retries"),
        (["--backoff", "1s"], "--backoff"),
        (["--no-retry", "E"], "--no-retry"),
        (["--batch-timeout", "1s"], "--batch-timeout"),
        (["--timeout", "1s"], "--timeout"),
        (["--max-failures", "0"], "--max-failures"),
        (["--on-failed-batch", "fail"], "--on-failed-batch"),
        (["--results", "/out"], "--results"),
        (["--results-format", "csv"], "--results-format"),
        (["--include-input"], "--include-input"),
    ],
)
def test_options_do_not_go_with_a_file_that_holds_the_request(
    operator: StubOperator, words: list[str], flag: str
) -> None:
    result = cortex("submit", "digits", "job.json", *words)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {flag} goes with --items, --files or --lines")
    assert operator.requests == []
