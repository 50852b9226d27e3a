"""Everything that can be wrong with a job request: its documented code and message, and no job behind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operator_process import OperatorProcess
from s3_faults import Faults
from s3_server import S3, fresh_bucket

ITEM_LIST = {"items": [1], "batch_size": 1}
GOOD: dict[str, Any] = {"workers": 1, "item_list": ITEM_LIST}
KIB = 1024


def items(**changes: Any) -> dict[str, Any]:
    """Give a request with other fields in its `item_list`; None takes one out."""
    return {"workers": 1, "item_list": {key: value for key, value in {**ITEM_LIST, **changes}.items() if value != ...}}


def lines(**section: Any) -> dict[str, Any]:
    return {"workers": 1, "delimited_files": {"s3_paths": ["s3://BUCKET/lines/"], **section}}


def files(**section: Any) -> dict[str, Any]:
    return {"workers": 1, "file_path_lister": {"s3_paths": ["s3://BUCKET/lines/"], "batch_size": 1, **section}}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


BAD_REQUESTS: list[tuple[str, Any]] = [
    # The request as a whole
    ("the request is not JSON: ", b""),
    ("the request is not JSON: ", b"{"),
    ("the request is not JSON: ", b"workers=1"),
    ("the request is not JSON: ", b'{"workers":1,}'),
    ("the request is not JSON: ", b'{"workers":NaN}'),
    ("the request is not JSON: ", json.dumps(GOOD).encode() + b" {}"),
    ("the request is not UTF-8: ", b'{"workers":"\xff"}'),
    ("the request must be a JSON object", b"[]"),
    ("the request must be a JSON object", b"null"),
    ("the request must be a JSON object", b'"text"'),
    ("worker: unknown field; did you mean `workers`?", {**GOOD, "worker": 1}),
    ("Workers: unknown field; did you mean `workers`?", {**GOOD, "Workers": 1}),
    ("dataset: unknown field (allowed: batch_timeout, config, delimited_files, ", {**GOOD, "dataset": {}}),
    # workers
    ("workers: is required", {"item_list": ITEM_LIST}),
    ("workers: got `0`, must be at least 1", {**GOOD, "workers": 0}),
    ("workers: got `-3`, must be at least 1", {**GOOD, "workers": -3}),
    ("workers: got `1.5`, must be a whole number", {**GOOD, "workers": 1.5}),
    ('workers: got `"1"`, must be a whole number', {**GOOD, "workers": "1"}),
    ("workers: got `true`, must be a whole number", {**GOOD, "workers": True}),
    ("workers: got `null`, must be a whole number", {**GOOD, "workers": None}),
    ("workers: got `2147483648`, must be", {**GOOD, "workers": 2**31}),
    # config
    ("config: got `[]`, must be an object", {**GOOD, "config": []}),
    ('config: got `"a=1"`, must be an object', {**GOOD, "config": "a=1"}),
    ("config: is nested too deeply, must have at most 100 levels", {**GOOD, "config": {"deep": nested(200)}}),
    # What is asked for when something fails
    ("retries: got `-1` (integer), must be a number of further attempts (at most 999)", {**GOOD, "retries": -1}),
    ("retries: got `1000` (integer), must be a number of further attempts", {**GOOD, "retries": 1000}),
    ("retries: got `2` (string), must be a number of further attempts", {**GOOD, "retries": "2"}),
    ("retries.attempts: is required", {**GOOD, "retries": {"backoff": "1s"}}),
    ("retries.attempts: got `0`, must be at least 1", {**GOOD, "retries": {"attempts": 0}}),
    ("retries.attempts: got `1001`, must be at most 1000", {**GOOD, "retries": {"attempts": 1001}}),
    ("retries.backoff: got `soon`, must be a number of", {**GOOD, "retries": {"attempts": 2, "backoff": "soon"}}),
    ("retries.backoff: got `-1`, must not be negative", {**GOOD, "retries": {"attempts": 2, "backoff": -1}}),
    (
        "retries: `backoff` is `2m`, must be at most `max_backoff`, which is `1m`",
        {**GOOD, "retries": {"attempts": 2, "backoff": "2m", "max_backoff": "1m"}},
    ),
    ("retries.no_retry[0]: got `a b` (string), must be", {**GOOD, "retries": {"attempts": 2, "no_retry": ["a b"]}}),
    ("retries.backof: unknown field; did you mean `backoff`?", {**GOOD, "retries": {"attempts": 2, "backof": 1}}),
    ("retry: unknown field; did you mean `retries`?", {**GOOD, "retry": 1}),
    ("batch_timeout: got `0`, must be more than 0", {**GOOD, "batch_timeout": 0}),
    ("batch_timeout: got a list, must be a number of seconds", {**GOOD, "batch_timeout": [1]}),
    ("timeout: got `1 hour`, must be a number of seconds, or text such as", {**GOOD, "timeout": "1 hour"}),
    ("timeout: got `36501d`, must be at most `36500d` (100 years)", {**GOOD, "timeout": "36501d"}),
    ("max_failures: got `-1` (integer), must be a number of batches", {**GOOD, "max_failures": -1}),
    ("max_failures: got `101%` (string), must be a number of batches", {**GOOD, "max_failures": "101%"}),
    ("max_failures: got `0.5` (number), must be a number of batches", {**GOOD, "max_failures": 0.5}),
    ('on_failed_batch: got `"skip"`, must be `fail` or `isolate`', {**GOOD, "on_failed_batch": "skip"}),
    # results
    ('results: got `"/out"`, must be an object', {**GOOD, "results": "/out"}),
    ("results.path: is required", {**GOOD, "results": {"format": "csv"}}),
    ("results.path: `out` is not absolute; must be s3://", {**GOOD, "results": {"path": "out"}}),
    ("results.path: `s3://b/*` holds `*`, must be one folder", {**GOOD, "results": {"path": "s3://b/*"}}),
    ("results.path: `/` is the root of the file system", {**GOOD, "results": {"path": "/"}}),
    ('results.format: got `"xml"`, must be `jsonl`', {**GOOD, "results": {"path": "FOLDER", "format": "xml"}}),
    ("results.include_input: got `1`, must be", {**GOOD, "results": {"path": "FOLDER", "include_input": 1}}),
    ("results.file: unknown field (allowed: format, include_", {**GOOD, "results": {"path": "FOLDER", "file": 1}}),
    # Exactly one dataset
    ("exactly one of `item_list`, `file_path_lister`, `delimited_files`; got none", {"workers": 1}),
    ("got `item_list` and `delimited_files`", {**GOOD, **lines()}),
    ("got `item_list` and `file_path_lister` and `delimited_files`", {**GOOD, **lines(), **files()}),
    # item_list
    ("item_list: got `[1]`, must be an object", {"workers": 1, "item_list": [1]}),
    ("item_list.items: is required", items(items=...)),
    ("item_list.items: must have at least one item", items(items=[])),
    ('item_list.items: got `"abc"`, must be a list', items(items="abc")),
    ("item_list.items: got `null`, must be a list", items(items=None)),
    ("item_list.batch_size: is required", items(batch_size=...)),
    ("item_list.batch_size: got `0`, must be at least 1", items(batch_size=0)),
    ('item_list.batch_size: got `"2"`, must be a whole number', items(batch_size="2")),
    ("item_list.batch_size: got `2147483648`, must be", items(batch_size=2**31)),
    ("item_list.batchsize: unknown field; did you mean `batch_size`?", items(batchsize=1)),
    (
        "item_list.items[1]: a batch of 262144 bytes as compact JSON",
        items(items=[1, "x" * (256 * KIB - 4)]),
    ),
    ("item_list.items[0] to [1]: a batch of ", items(items=["x" * 130 * KIB] * 2, batch_size=2)),
    # Files: what can be seen without looking for them
    ("delimited_files: got `[]`, must be an object", {"workers": 1, "delimited_files": []}),
    ("delimited_files.s3_paths: is required", {"workers": 1, "delimited_files": {}}),
    ("delimited_files.s3_paths: must have at least one path", lines(s3_paths=[])),
    ('delimited_files.s3_paths: got `"s3://b/k"`, must be a list', lines(s3_paths="s3://b/k")),
    ("delimited_files.s3_paths[0]: got `1`, must be text", lines(s3_paths=[1])),
    ("delimited_files.s3_paths[0]: is empty; must be s3://bucket/key", lines(s3_paths=[""])),
    ("delimited_files.s3_paths[1]: `lines/` is not absolute", lines(s3_paths=["s3://BUCKET/", "lines/"])),
    ("delimited_files.s3_paths[0]: `s3://` names no bucket", lines(s3_paths=["s3://"])),
    ("delimited_files.s3_paths[0]: `https://` is not known; must be s3://", lines(s3_paths=["https://a/b"])),
    (
        "delimited_files.s3_paths[0]: `s3://` must not be followed by a user or password",
        lines(s3_paths=["s3://a:b@c/"]),
    ),
    ("delimited_files.s3_paths[0]: `file://elsewhere/x` is on another machine", lines(s3_paths=["file://elsewhere/x"])),
    ("delimited_files.batch_size: got `0`, must be at least 1", lines(batch_size=0)),
    ("delimited_files.include: unknown field; did you mean `includes`?", lines(include=["**"])),
    ('delimited_files.includes: got `"**.json"`, must be a list', lines(includes="**.json")),
    ("delimited_files.includes[0]: character 1: `[` is not closed", lines(includes=["["])),
    ("delimited_files.includes[0]: character ", lines(includes=["[b-a]"])),
    ("delimited_files.excludes[1]: character ", lines(excludes=["**", "{a,b"])),
    ("delimited_files.excludes[0]: character ", lines(excludes=["a\\"])),
    ("delimited_files.includes[0]: got `null`, must be text", lines(includes=[None])),
    ("file_path_lister.batch_size: is required", {"workers": 1, "file_path_lister": {"s3_paths": ["s3://BUCKET/"]}}),
    ("file_path_lister.s3_paths: must have at least one path", files(s3_paths=[])),
    # Files: what has to be looked for
    ("delimited_files.s3_paths: there is no bucket `no-such-", lines(s3_paths=["s3://no-such-bucket-anywhere/lines/"])),
    (
        "there is no bucket `no-such-bucket-anywhere`",
        lines(s3_paths=["s3://BUCKET/lines/", "s3://no-such-bucket-anywhere/"]),
    ),
    (
        "delimited_files.s3_paths: there is no file whose URL begins with",
        lines(s3_paths=["s3://BUCKET/nothing-begins-with-this"]),
    ),
    ("delimited_files.s3_paths: there is no file whose URL begins with", lines(s3_paths=["s3://BUCKET/empty-folder/"])),
    ("delimited_files.includes: of 1 files none is left", lines(includes=["*.jsonl"])),
    ("delimited_files.excludes: of 1 files none is left", lines(excludes=["**"])),
    ("file_path_lister.includes: of 1 files none is left", files(includes=["**.jpg"])),
    ("delimited_files.s3_paths: there is no file whose URL begins with", lines(s3_paths=["/nowhere/at/all"])),
    ("delimited_files.s3_paths: there is no file whose URL begins with", lines(s3_paths=["file:///nowhere/at/all"])),
    ("file_path_lister.s3_paths: there is no file whose URL begins with", files(s3_paths=["FOLDER/empty/"])),
]

OTHER_MISTAKES: list[tuple[int, str, str, str, str, Any]] = [
    (400, "submission.invalid", "workers: is required", "POST", "/api?dryRun=true", {"item_list": ITEM_LIST}),
    (400, "request.invalid", "dryRun: got `perhaps`, must be true or false", "POST", "/api?dryRun=perhaps", GOOD),
    (400, "request.invalid", "follow: got `2`, must be true or false", "GET", "/api/JOB/logs?follow=2", None),
    (404, "api.not_found", "no API is deployed at `/nothing`", "POST", "/nothing", GOOD),
    (404, "job.not_found", "there is no job `0123456789abcdef`", "GET", "/api/0123456789abcdef", None),
    (404, "job.not_found", "there is no job `0123456789abcdef`", "GET", "/api?jobID=0123456789abcdef", None),
    (404, "job.not_found", "there is no job `0123456789abcdef`", "DELETE", "/api/0123456789abcdef", None),
    (
        404,
        "job.not_found",
        "there is no job `0123456789abcdef`",
        "DELETE",
        "/api?jobID=0123456789abcdef",
        None,
    ),
    (404, "route.not_found", "a job has no `rows`", "GET", "/api/JOB/rows", None),
    (405, "request.method_not_allowed", "PUT is not allowed here", "PUT", "/api", GOOD),
    (405, "request.method_not_allowed", "DELETE is not allowed here", "DELETE", "/api", None),
    (405, "request.method_not_allowed", "POST is not allowed here", "POST", "/api/JOB", GOOD),
    (409, "job.not_in_progress", "job `JOB` has already ended", "DELETE", "/api/JOB", None),
    (413, "request.too_large", "less than 10485760 (10 MiB)", "POST", "/api", b'{"config": "' + b"x" * 10 * KIB * KIB),
    (404, "upload.not_found", "there is no upload `", "POST", "/api", lines(s3_paths=["upload://" + "0a" * 16 + "/x"])),
]


@pytest.fixture(scope="module")
def s3(s3_server: tuple[str, Faults]) -> Iterator[S3]:
    """A bucket with a file of lines, and an empty folder."""
    with fresh_bucket(*s3_server) as s3:
        s3.put("lines/a.json", body=b"1\n2\n")
        s3.put("empty-folder/", body=b"")
        yield s3


@pytest.fixture(scope="module")
def server(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """An operator that reaches S3, with one API."""
    server = OperatorProcess(tmp_path_factory.mktemp("operator") / "data", env=s3.env).start()
    server.deploy("class PythonPredictor:\n    def __init__(self, config): pass\n    def predict(self, payload): pass")
    yield server
    assert server.stop() == ""
    server.http.close()


@pytest.fixture(scope="module")
def job(server: OperatorProcess) -> str:
    """A job that has ended."""
    job = server.submit([1])
    server.wait(job)
    return job


def ask(server: OperatorProcess, method: str, path: str, request: Any, names: dict[str, str]) -> Any:
    body = request if isinstance(request, bytes) or request is None else json.dumps(request).encode()
    for name, value in names.items():
        path = path.replace(name, value)
        body = body and body.replace(name.encode(), value.encode())
    return server.http.request(method, path, content=body)


def test_the_table_is_as_long_as_was_promised() -> None:
    assert len(BAD_REQUESTS) + len(OTHER_MISTAKES) >= 60


@pytest.mark.parametrize(("said", "request_"), BAD_REQUESTS, ids=[str(row[1])[:60] for row in BAD_REQUESTS])
def test_a_bad_request_is_refused_with_its_reason_and_leaves_no_job(
    server: OperatorProcess, s3: S3, job: str, tmp_path: Path, said: str, request_: Any
) -> None:
    (tmp_path / "empty").mkdir()

    answer = ask(server, "POST", "/api", request_, {"BUCKET": s3.bucket, "FOLDER": str(tmp_path)})

    refusal = answer.json()
    assert (answer.status_code, refusal["kind"]) == (400, "submission.invalid")
    assert said in refusal["message"]
    assert set(refusal) == {"kind", "message"}
    assert [job] == [each["job_id"] for each in server.http.get("/api").json()["jobs"]]
    assert [job] == [path.name for path in (server.data_dir / "jobs").iterdir()]


@pytest.mark.parametrize(("status", "kind", "said", "method", "path", "request_"), OTHER_MISTAKES)
def test_every_other_mistake_has_its_own_code_and_leaves_no_job(
    server: OperatorProcess, job: str, status: int, kind: str, said: str, method: str, path: str, request_: Any
) -> None:
    answer = ask(server, method, path, request_, {"JOB": job})

    refusal = answer.json()
    assert (answer.status_code, refusal["kind"]) == (status, kind)
    assert said.replace("JOB", job) in refusal["message"]
    assert [job] == [each["job_id"] for each in server.http.get("/api").json()["jobs"]]
