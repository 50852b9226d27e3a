"""Datasets in files, from the request to the last row: on disk and in S3, through the real operator."""

import gzip
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zstandard

from operator_process import OperatorProcess
from processes import children_named
from s3_server import S3

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""


@pytest.fixture
def operator(start_operator: Callable[..., OperatorProcess], s3: S3) -> OperatorProcess:
    """An operator that reaches S3, with an API that gives back what it gets."""
    operator = start_operator(env=s3.env)
    operator.deploy(ECHO)
    return operator


def submit(operator: OperatorProcess, kind: str, *, workers: int = 2, **section: Any) -> str:
    answer = operator.http.post("/api", json={"workers": workers, kind: section})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["job_id"])


def as_lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def test_every_line_of_every_file_is_an_item_in_order(operator: OperatorProcess, s3: S3) -> None:
    s3.put("in/a.json", body=as_lines(1, "two", {"three": [3]}))
    s3.put("in/b.json", body=b"\xef\xbb\xbf4\r\n\r\nnull\r\n   \n[6]")
    s3.put("in/c.json", body=b"")
    s3.put("in/ignored.txt", body=b"not JSON")

    job = submit(operator, "delimited_files", s3_paths=[s3.url("in/")], includes=["**.json"], batch_size=4)

    status = operator.wait(job)
    assert (status["status"], status["total_batch_count"]) == ("status_succeeded", 2)
    assert [1, "two", {"three": [3]}, 4, None, [6]] == operator.rows(job)
    assert operator.log(job).splitlines()[:6] == [
        "started enqueuing batches to queue",
        f"enqueuing contents from file {s3.url('in/a.json')}",
        f"enqueuing contents from file {s3.url('in/b.json')}",
        f"enqueuing contents from file {s3.url('in/c.json')}",
        "completed enqueuing a total of 2 batches",
        "spinning up workers...",
    ]


def test_every_file_is_an_item_in_the_order_of_the_keys(operator: OperatorProcess, s3: S3) -> None:
    keys = [f"in/{number:04}.jpg" for number in range(1205)]
    s3.fill([*keys, "in/", "in/none.png"])

    job = submit(operator, "file_path_lister", s3_paths=[s3.url("in/")], includes=["**.jpg"], batch_size=100)

    assert operator.wait(job)["total_batch_count"] == 13
    assert [s3.url(key) for key in keys] == operator.rows(job)


def test_compressed_files_are_read_as_what_they_hold(operator: OperatorProcess, s3: S3, tmp_path: Path) -> None:
    s3.put("in/a.jsonl.gz", body=gzip.compress(as_lines(1, 2)) + gzip.compress(as_lines(3)))
    s3.put("in/b.jsonl.zst", body=zstandard.compress(as_lines(4)))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(as_lines(5)))

    job = submit(operator, "delimited_files", s3_paths=[s3.url("in/"), str(tmp_path / "c.jsonl.gz")])

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 2, 3, 4, 5] == operator.rows(job)


def test_files_on_the_disk_are_named_by_path_or_url(operator: OperatorProcess, tmp_path: Path) -> None:
    for name in ("a b.json", "c.json"):
        (tmp_path / name).write_bytes(as_lines(name))

    job = submit(operator, "delimited_files", s3_paths=[f"file://{tmp_path}/a%20b.json", f"{tmp_path}/c"], batch_size=2)

    assert operator.wait(job)["status"] == "status_succeeded"
    assert ["a b.json", "c.json"] == operator.rows(job)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'1\n2\n{"a": 1,}\n4\n', "line 3"),
        (b"1\n2 3\n", "line 2"),
        (b'"' + b"x" * 300_000 + b'"\n', "line 1"),
        (b"1\n\xff\n", "line 2"),
        (b"\n\n", "no items"),
    ],
    ids=["no JSON", "two values", "too large", "no UTF-8", "empty"],
)
def test_a_job_whose_lines_are_bad_ends_with_file_line_and_reason(
    operator: OperatorProcess, tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)

    job = submit(operator, "delimited_files", s3_paths=[str(path)])

    status = operator.wait(job)
    assert status["status"] == "status_enqueue_failed"
    assert reason in status["status_reason"]
    assert str(path) in status["status_reason"] or "no items" in reason
    assert operator.log(job).splitlines()[-1] == f"failed to enqueue all batches: {status['status_reason']}"
    assert "end_time" in status
    assert "start_time" not in status


def test_a_dry_run_lists_what_would_be_processed(operator: OperatorProcess, s3: S3) -> None:
    keys = [f"in/{number:04}.json" for number in range(1100)]
    s3.fill(keys)
    s3.put(keys[3], body=b"12")
    request = {"workers": 1, "file_path_lister": {"s3_paths": [s3.url("in/")], "batch_size": 200}}

    text = operator.http.post("/api?dryRun=true", json=request)
    summary = operator.http.post("/api?dryRun=true", json=request, headers={"Accept": "application/json"}).json()

    assert text.headers["content-type"].startswith("text/plain")
    assert [*map(s3.url, keys), "validations passed"] == text.text.split("\n")
    assert summary == {
        "files": 1100,
        "bytes": 2,
        "items": 1100,
        "batches": 6,
        "paths": [s3.url(key) for key in keys[:10]],
    }
    assert operator.http.get("/api").json()["jobs"] == []


def test_a_dry_run_that_fails_on_the_way_says_why_in_its_last_line(operator: OperatorProcess, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1100):
        (folder / f"{number:04}.json").touch()
    (folder / "z").symlink_to(tmp_path / "missing")
    request = {"workers": 1, "file_path_lister": {"s3_paths": [f"{folder}/"], "batch_size": 1}}

    lines = operator.http.post("/api?dryRun=true", json=request).text.splitlines()

    assert [f"{folder}/{number:04}.json" for number in range(1000)] == lines[:1000]
    assert f"error: file_path_lister.s3_paths: `{folder}/z` is a link to nothing" in lines
    assert "validations passed" not in lines
    assert operator.stop() == ""


# What happens on the way


@pytest.fixture
def slow_lines(tmp_path: Path) -> Iterator[Path]:
    """A file that takes a while to be enqueued: it begins with a blank line, so it is copied."""
    path = tmp_path / "slow.json"
    with path.open("wb") as file:
        file.write(b"\n")
        for first in range(0, 3_000_000, 100_000):
            file.write(b"".join(b"%d\n" % number for number in range(first, first + 100_000)))
    yield path
    path.unlink()


def enqueuers(operator: OperatorProcess) -> list[psutil.Process]:
    assert operator.process is not None
    return children_named("cortex-enqueue", operator.process.pid)


def begin(operator: OperatorProcess, path: Path, batch_size: int = 1000) -> str:
    """Submit a file and wait until a process is at it."""
    job = submit(operator, "delimited_files", s3_paths=[str(path)], batch_size=batch_size, workers=1)
    while not enqueuers(operator):
        assert operator.status(job)["status"] == "status_enqueuing"
    return job


def test_a_job_is_stopped_while_it_is_enqueued(operator: OperatorProcess, slow_lines: Path) -> None:
    job = begin(operator, slow_lines, batch_size=1)
    status = operator.status(job)
    assert status["status"] == "status_enqueuing"

    answer = operator.http.delete(f"/api/{job}")

    assert answer.json() == {"message": f"stopped job {job}"}
    assert operator.status(job)["status"] == "status_stopped"
    assert enqueuers(operator) == []


@pytest.mark.parametrize("who", ["enqueuer", "operator"])
def test_nothing_is_lost_or_doubled_when_somebody_is_killed_while_enqueuing(
    operator: OperatorProcess, slow_lines: Path, who: str
) -> None:
    job = begin(operator, slow_lines)

    if who == "enqueuer":
        (process,) = enqueuers(operator)
        os.kill(process.pid, signal.SIGKILL)
    else:
        operator.kill()
        operator.start()

    status = operator.wait(job)
    assert (status["status"], status["total_batch_count"]) == ("status_succeeded", 3000)
    assert list(range(3_000_000)) == operator.rows(job)


def test_an_api_is_deleted_while_its_files_are_enqueued(operator: OperatorProcess, slow_lines: Path) -> None:
    begin(operator, slow_lines, batch_size=1)

    assert operator.http.delete("/_cortex/apis/api").status_code == 200

    assert enqueuers(operator) == []
    assert list((operator.data_dir / "jobs").iterdir()) == []


def test_what_was_uploaded_is_gone_once_its_lines_are_enqueued(operator: OperatorProcess) -> None:
    upload = "0a" * 16
    answer = operator.http.patch(
        f"/_cortex/uploads/{upload}/items.json", content=as_lines(1, 2), headers={"Upload-Offset": "0"}
    )
    assert answer.status_code == 204

    job = submit(operator, "delimited_files", s3_paths=[f"upload://{upload}/"])

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 2] == operator.rows(job)
    operator.stop()  # it waits for what it does in the background
    assert not (operator.data_dir / "jobs" / job / "uploads").exists()
    assert list((operator.data_dir / "incoming").iterdir()) == []
