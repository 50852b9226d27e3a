"""Results on disks and in S3: they are there once, whole, whatever fails or dies on the way."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from cortex.child_process.children import Children
from cortex.domain.output import Output, OutputFormat
from cortex.exporting.events import FileWritten, WritingFailed, Written
from cortex.exporting.process import Exporters
from ended_jobs import EndedJob, Rows, end_job
from operator_process import OperatorProcess
from processes import children_named, kill
from s3_server import S3
from shared_operators import SharedOperators

PREDICTOR = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            if "bad" in payload:
                raise ValueError("as asked")
            return [{"n": item} for item in payload]
"""
RETRIES = {"CORTEX_EXPORT_PATIENCE_SECONDS": "60"}
SECONDS = 60


@pytest.fixture
def operator(shared_operators: SharedOperators) -> Iterator[OperatorProcess]:
    with shared_operators.one("--keep-warm", "0", env=RETRIES) as operator:
        operator.deploy(PREDICTOR)
        yield operator


@pytest.fixture
def s3_operator(s3: S3, operator: OperatorProcess) -> OperatorProcess:
    """An operator that reaches the bucket: `s3` comes before it."""
    return operator


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a fact that nobody announces; give it."""
    give_up_at = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    return found


def objects(s3: S3, job: str) -> dict[str, bytes]:
    """Give the files of a job's results in S3."""
    beginning = s3.url(f"out/{job}/")
    names = [url.removeprefix(beginning) for url in s3.keys(f"out/{job}/")]
    return {name: s3.client.get_object(Bucket=s3.bucket, Key=f"out/{job}/{name}")["Body"].read() for name in names}


def reason(operator: OperatorProcess, job: str) -> str:
    return str(operator.status(job).get("status_reason", ""))


def exporting_processes(operator: OperatorProcess) -> list[psutil.Process]:
    assert operator.process is not None
    return children_named("cortex-export", operator.process.pid)


def manifest(operator: OperatorProcess, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in operator.http.get(f"/api/{job}/manifest").text.splitlines()]


@pytest.mark.parametrize("format_", list(OutputFormat))
def test_results_are_written_to_a_folder(operator: OperatorProcess, tmp_path: Path, format_: OutputFormat) -> None:
    out = tmp_path / "not there yet" / "out"
    job = operator.submit(list(range(10)), batch_size=3, results={"path": str(out), "format": format_.value})

    assert "status_succeeded" == operator.wait(job)["status"]

    names = {f"part-00000.{format_}", "manifest.json", "_manifest", "_SUCCESS"}
    assert names == {path.name for path in (out / job).iterdir()}
    log = operator.log(job)
    assert f"writing results to {out}/{job}\nwrote 1 file (10 rows) to {out}/{job}\n" in log
    (output,) = [line for line in manifest(operator, job) if line["kind"] == "output"]
    assert (f"part-00000.{format_}", 10, 0, 4) == tuple(
        output[name] for name in ("name", "rows", "first_batch", "end_batch")
    )
    assert operator.http.get(f"/api/{job}/verify").json()["is_intact"]


def test_failed_batches_and_isolated_items_are_accounted_for(operator: OperatorProcess, tmp_path: Path) -> None:
    job = operator.submit(
        [1, "bad", 3, 4, 5, 6, "bad"],
        batch_size=3,
        on_failed_batch="isolate",
        results={"path": f"file://{tmp_path}/out", "include_input": True},
    )

    assert "status_completed_with_failures" == operator.wait(job)["status"]

    lines = (tmp_path / "out" / job / "part-00000.jsonl").read_text().splitlines()
    assert [{"input": item, "output": {"n": item}} for item in (1, 3, 4, 5, 6)] == [json.loads(line) for line in lines]
    assert not (tmp_path / "out" / job / "_SUCCESS").exists()
    total = manifest(operator, job)[-1]
    assert (7, 5, 2, 0) == tuple(total[name] for name in ("items", "succeeded_items", "failed_items", "open_items"))
    assert total == {"kind": "total"} | json.loads((tmp_path / "out" / job / "manifest.json").read_text())["totals"]


def test_the_manifest_names_the_files_of_the_dataset(operator: OperatorProcess, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).write_text("1\n2\n")
    request = {"workers": 1, "delimited_files": {"s3_paths": [f"{tmp_path}/data/"], "batch_size": 3}}
    job = operator.http.post("/api", json=request).json()["job_id"]
    followed = operator.http.get(f"/api/{job}/manifest", params={"follow": "true"})

    lines = [json.loads(line) for line in followed.text.splitlines()]

    assert ["job", "input", "input", "batch", "batch", "total"] == [line["kind"] for line in lines]
    assert [(f"{tmp_path}/data/a", 4), (f"{tmp_path}/data/b", 4)] == [
        (line["path"], line["size"]) for line in lines if line["kind"] == "input"
    ]
    assert (4, 4, 2, 4) == tuple(lines[-1][name] for name in ("items", "succeeded_items", "succeeded", "rows"))


def test_files_that_are_items_are_named_with_size_and_etag_and_checked(s3: S3, s3_operator: OperatorProcess) -> None:
    names = ("a", "bb", "ccc")
    for name in names:
        s3.put(f"data/{name}", body=name.encode())
    request = {"workers": 1, "file_path_lister": {"s3_paths": [s3.url("data/")], "batch_size": 2}}
    job = s3_operator.http.post("/api", json=request).json()["job_id"]
    s3_operator.wait(job)

    lines = [line for line in manifest(s3_operator, job) if line["kind"] == "input"]
    verified = s3_operator.http.get(f"/api/{job}/verify").json()
    etags = [s3.client.head_object(Bucket=s3.bucket, Key=f"data/{name}")["ETag"] for name in names]
    s3.put("data/bb", body=b"new")
    changed = s3_operator.http.get(f"/api/{job}/verify").json()

    expected = [(s3.url(f"data/{name}"), len(name), etag) for name, etag in zip(names, etags, strict=True)]
    assert expected == [(line["path"], line["size"], line["version"]) for line in lines]
    assert (3, []) == (verified["checked"]["inputs"], verified["notes"])
    note = f"1 of its inputs have changed since they were listed, for example `{s3.url('data/bb')}`"
    assert [note] == changed["notes"]


@pytest.mark.parametrize("dry", [{}, {"dryRun": "true"}])
def test_a_place_that_takes_no_results_is_refused_before_there_is_a_job(
    s3: S3, s3_operator: OperatorProcess, tmp_path: Path, dry: dict[str, str]
) -> None:
    (tmp_path / "file").write_text("")
    refused = {
        "s3://there-is-no-such-bucket/out": "results.path: there is no bucket `there-is-no-such-bucket`",
        f"{tmp_path}/file": f"results.path: `{tmp_path}/file` cannot be written: Not a directory",
        f"file://{s3_operator.data_dir}/jobs": "/jobs` is in the operator's data directory",
    }

    for path, message in refused.items():
        request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "results": {"path": path}}
        answer = s3_operator.http.post("/api", json=request, params=dry)
        assert (400, "submission.invalid") == (answer.status_code, answer.json()["kind"])
        assert message in answer.json()["message"]

    assert [] == s3_operator.http.get("/api").json()["jobs"]


def test_looking_whether_results_can_be_written_leaves_nothing(
    s3: S3, s3_operator: OperatorProcess, tmp_path: Path
) -> None:
    for path in (s3.url("out/"), str(tmp_path / "out")):
        request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}, "results": {"path": path}}
        answer = s3_operator.http.post("/api", json=request, params={"dryRun": "true"})
        assert (200, "validations passed") == (answer.status_code, answer.text)

    assert ([], []) == (s3.keys("out/"), list((tmp_path / "out").iterdir()))


def test_a_folder_that_is_not_allowed_is_refused(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    operator = start_operator("--allow-path", str(tmp_path / "allowed"))
    operator.deploy(PREDICTOR)
    request = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}

    answer = operator.http.post("/api", json={**request, "results": {"path": str(tmp_path / "other")}})
    job = operator.submit([1], results={"path": str(tmp_path / "allowed" / "out")})

    assert 400 == answer.status_code
    assert "outside the folders that this operator may use" in answer.json()["message"]
    assert not (tmp_path / "other").exists()
    assert "status_succeeded" == operator.wait(job)["status"]


def test_results_come_to_s3_once_it_answers_again(s3: S3, s3_operator: OperatorProcess) -> None:
    s3.faults.refuse("503 Slow Down", "SlowDown", times=10_000, method="PUT", matching="part-")
    job = s3_operator.submit([1, 2], results={"path": s3.url("out")})
    until(lambda: reason(s3_operator, job).startswith("results cannot be written: "))
    while_troubled = s3_operator.status(job)

    s3.faults.clear()

    ended = s3_operator.wait(job)
    assert ("status_running", "status_succeeded") == (while_troubled["status"], ended["status"])
    assert "kept answering 503 SlowDown; trying again since 20" in while_troubled["status_reason"]
    found = objects(s3, job)
    assert {"part-00000.jsonl", "manifest.json", "_manifest/batches-00000.jsonl", "_SUCCESS"} == found.keys()
    assert b'{"n":1}\n{"n":2}\n' == found["part-00000.jsonl"]
    assert "results can be written again\n" in s3_operator.log(job)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("500 Internal Server Error", "InternalError", "kept answering 500 InternalError"),
        ("403 Forbidden", "AccessDenied", "access is denied (AccessDenied)"),
    ],
)
def test_results_that_cannot_be_written_at_all_end_the_job_and_stay_in_the_operator(
    s3: S3, start_operator: Callable[..., OperatorProcess], status: str, code: str, expected: str
) -> None:
    operator = start_operator("--keep-warm", "0", env={**s3.env, "CORTEX_EXPORT_PATIENCE_SECONDS": "1"})
    operator.deploy(PREDICTOR)
    s3.faults.refuse(status, code, times=10_000, method="PUT", matching="part-")
    job = operator.submit([1, 2], results={"path": s3.url("out")})

    ended = operator.wait(job)

    assert "status_unexpected_error" == ended["status"]
    assert ended["status_reason"].startswith("the results could not be written: ")
    assert expected in ended["status_reason"]
    assert {"succeeded": 2, "failed": 0} == {name: ended["item_metrics"][name] for name in ("succeeded", "failed")}
    assert [{"n": 1}, {"n": 2}] == operator.rows(job)
    assert {} == objects(s3, job)


def test_a_job_is_stopped_while_its_results_are_written_to_a_storage_that_never_answers(
    s3: S3, s3_operator: OperatorProcess
) -> None:
    is_asked, is_over = threading.Event(), threading.Event()

    def never_answer() -> None:
        is_asked.set()
        is_over.wait(SECONDS)

    s3.faults.before(never_answer, method="PUT", matching="part-")
    job = s3_operator.submit([1, 2], results={"path": s3.url("out")})
    assert is_asked.wait(SECONDS)

    answer = s3_operator.http.delete(f"/api/{job}")
    was_over = is_over.is_set()
    left = exporting_processes(s3_operator)
    is_over.set()

    assert (200, False, []) == (answer.status_code, was_over, left)
    assert "status_stopped" == s3_operator.status(job)["status"]
    assert [{"n": 1}, {"n": 2}] == s3_operator.rows(job)
    assert not {"manifest.json", "_SUCCESS"} & objects(s3, job).keys()


@pytest.mark.parametrize("who", ["exporter", "operator", "both"])
def test_whoever_is_killed_while_results_are_written_they_are_there_once(
    s3: S3, s3_operator: OperatorProcess, who: str
) -> None:
    s3.faults.refuse("503 Slow Down", "SlowDown", times=10_000, method="PUT", matching="manifest.json")
    job = s3_operator.submit(list(range(20)), batch_size=3, results={"path": s3.url("out"), "format": "csv"})
    until(lambda: reason(s3_operator, job).startswith("results cannot be written: "))
    half = objects(s3, job)

    if who in ("exporter", "both"):
        (process,) = exporting_processes(s3_operator)
        process.kill()
    if who in ("operator", "both"):
        s3_operator.kill()
        s3_operator.start()
    s3.faults.clear()

    assert "status_succeeded" == s3_operator.wait(job)["status"]
    found = objects(s3, job)
    assert {"part-00000.csv", "_manifest/batches-00000.jsonl"} == half.keys()
    assert half == {name: found[name] for name in half}
    assert {*half, "manifest.json", "_SUCCESS"} == found.keys()
    assert "n\r\n" + "".join(f"{number}\r\n" for number in range(20)) == found["part-00000.csv"].decode()
    assert [20] == [line["rows"] for line in manifest(s3_operator, job) if line["kind"] == "output"]
    assert s3_operator.http.get(f"/api/{job}/verify").json()["is_intact"]


def test_an_operator_that_ends_leaves_the_writing_to_the_next(s3: S3, s3_operator: OperatorProcess) -> None:
    s3.faults.refuse("503 Slow Down", "SlowDown", times=10_000, method="PUT", matching="part-")
    job = s3_operator.submit([1], results={"path": s3.url("out")})
    until(lambda: reason(s3_operator, job).startswith("results cannot be written: "))

    s3_operator.stop()
    s3.faults.clear()
    s3_operator.start()

    assert "status_succeeded" == s3_operator.wait(job)["status"]
    assert "_SUCCESS" in objects(s3, job)


# The processes alone, where parts can be small


def large_job(tmp_path: Path, format_: OutputFormat) -> EndedJob:
    output = Output(path=str(tmp_path / "out"), format=format_, include_input=True)
    outcomes = [Rows(items=[number], rows=[{"n": number, "text": "x" * 100}]) for number in range(2000)]
    return end_job(tmp_path / "jobs", *outcomes, output=output, per_segment=300)


async def write_all(exporters: Exporters, job: EndedJob, heard: Callable[[object], object]) -> list[object]:
    told: list[object] = []
    try:
        async with aclosing(exporters.write(job.ended, is_success=True)) as events:
            async for event in events:
                told.append(event)
                heard(event)
    finally:
        await exporters.children.close()
    return told


def contents(folder: Path) -> dict[str, bytes]:
    """Give the files below a folder; one whose name begins with a dot is not finished, and none to its readers."""
    paths = (path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@contextmanager
def watching(folder: Path) -> Iterator[list[dict[str, bytes]]]:
    """List a folder and read every file in it, over and over, while something goes on."""
    seen: list[dict[str, bytes]] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            look: dict[str, bytes] = {}
            # The mark first: what is whole when it is there is whole a moment later, too.
            has_mark = (folder / "_SUCCESS").exists()
            names = [path.name for path in folder.glob("[!.]*") if path.is_file() and path.name != "_SUCCESS"]
            for name in ["_SUCCESS", *names] if has_mark else names:
                with suppress(FileNotFoundError):
                    look[name] = (folder / name).read_bytes()
            if not seen or seen[-1] != look:
                seen.append(look)
            is_over.wait(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("format_", list(OutputFormat))
def test_a_reader_never_sees_half_a_file_whenever_the_writer_is_killed(tmp_path: Path, format_: OutputFormat) -> None:
    job = large_job(tmp_path / "undisturbed", format_)
    exporters = Exporters(children=Children(), log=tmp_path / "log", part_bytes=10_000)
    asyncio.run(write_all(exporters, job, lambda _: None))
    expected = contents(tmp_path / "undisturbed" / "out" / job.job.id)
    job = large_job(tmp_path / "killed", format_)
    seed = random.SystemRandom().randrange(10**6)
    kills: list[str] = []
    parts = sorted(name for name in expected if name.startswith("part-"))
    killed_at = set(random.Random(seed).sample(parts[:-1], 4))  # noqa: S311 - a seed that can be given again

    def heard(event: object) -> None:
        if isinstance(event, FileWritten) and event.name in killed_at - set(kills):
            for process in children_named("cortex-export"):  # it may have come to its end before this was heard
                kills.append(event.name)
                kill(process)

    folder = tmp_path / "killed" / "out" / job.job.id
    with watching(folder) as seen:
        told = asyncio.run(write_all(exporters, job, heard))

    print(f"seed {seed}: killed after {kills}")
    assert kills
    assert Written(files=len(parts), rows=2000) == told[-1]
    assert expected == contents(folder)
    assert len(seen) > 1
    whole = {name: data for name, data in contents(folder).items() if "/" not in name}
    for look in seen:
        assert look == {name: whole[name] for name in look}
        assert "_SUCCESS" not in look or look == whole


def test_a_process_that_dies_again_and_again_at_one_place_is_given_up(tmp_path: Path) -> None:
    job = large_job(tmp_path, OutputFormat.JSON_LINES)
    exporters = Exporters(children=Children(), log=tmp_path / "log", part_bytes=10_000)

    def heard(event: object) -> None:
        if isinstance(event, FileWritten):
            for process in children_named("cortex-export"):
                with suppress(psutil.NoSuchProcess):
                    process.suspend()  # so that it comes no further than this
                    process.kill()

    told = asyncio.run(write_all(exporters, job, heard))

    assert isinstance(told[-1], WritingFailed)
    assert "was killed by signal 9 (SIGKILL), 4 times at the same place" in told[-1].reason
