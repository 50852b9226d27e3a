"""The logs of jobs, besides, in the team's own collector: `--log-sink` with a real operator."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from operator_process import OperatorProcess, follow_lines
from s3_server import S3

TALKER = """
    import time

    class PythonPredictor:
        def __init__(self, config): pass
        def predict(self, payload):
            print(f"item {payload[0]} " + "x" * 100)
            time.sleep(0.001)
"""


def from_stdout(written: str, job: str) -> str:
    """Give the log of a job as it stands on the operator's stdout."""
    objects = [json.loads(line) for line in written.splitlines()]
    assert all({"time", "api", "job_id", "line"} == set(each) for each in objects)
    return "".join(f"{each['line']}\n" for each in objects if each["job_id"] == job and each["api"] == "api")


def from_parts(folder: Path) -> bytes:
    """Give a log from its parts; each begins where the one before ends."""
    log = b""
    for path in sorted(folder.iterdir()):
        assert int(path.stem) == len(log)
        log += path.read_bytes()
    return log


def test_every_line_of_every_job_is_on_stdout(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "0", "--log-sink", "stdout")
    operator.deploy(TALKER)
    jobs = [operator.submit(list(range(100)), workers=2) for _ in range(2)]
    for job in jobs:
        operator.wait(job)
    logs = [operator.log(job) for job in jobs]

    operator.stop()

    assert logs == [from_stdout(operator.written, job) for job in jobs]


def test_a_reader_of_stdout_that_has_stopped_holds_nothing_up(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "0", "--log-sink", "stdout")
    operator.deploy(TALKER)

    job = operator.submit(list(range(2000)))  # four times what a pipe holds

    assert operator.wait(job)["status"] == "status_succeeded"


def test_nothing_is_missing_on_stdout_when_the_operator_is_killed(
    start_operator: Callable[..., OperatorProcess],
) -> None:
    operator = start_operator("--keep-warm", "0", "--log-sink", "stdout")
    operator.deploy(TALKER)
    job = operator.submit(list(range(3000)))
    for line in follow_lines(operator, job):
        if line.startswith("item 300 "):
            break

    operator.kill()
    operator.written = operator.written[: operator.written.rfind("\n") + 1]  # it may have died within a line
    operator.start()
    operator.wait(job)
    log = operator.log(job)
    operator.stop()

    missing = set(log.splitlines()) - set(from_stdout(operator.written, job).splitlines())
    assert missing == set()


def test_nothing_is_missing_or_twice_in_the_parts_when_the_operator_is_killed(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator("--keep-warm", "0", "--log-sink", f"file://{tmp_path}/logs/")
    operator.deploy(TALKER)
    job = operator.submit(list(range(3000)))
    for item in (300, 1500):
        for line in follow_lines(operator, job):
            if line.startswith(f"item {item} "):
                break
        operator.kill()
        operator.start()
    operator.wait(job)
    log = operator.log(job)

    operator.stop()

    assert log.encode() == from_parts(tmp_path / "logs" / "api" / job)
    assert not (operator.data_dir / "jobs" / job / "log.sent").exists()


def test_logs_are_objects_on_s3(start_operator: Callable[..., OperatorProcess], s3: S3) -> None:
    operator = start_operator("--keep-warm", "0", "--log-sink", s3.url("team"))
    operator.deploy(TALKER)
    job = operator.submit(list(range(10)))
    operator.wait(job)
    log = operator.log(job)

    operator.stop()

    (url,) = s3.keys(f"team/api/{job}/")
    assert url == s3.url(f"team/api/{job}/000000000000.log")
    body = s3.client.get_object(Bucket=s3.bucket, Key=url.removeprefix(s3.url("")))["Body"].read()
    assert log.encode() == body


@pytest.mark.parametrize("sink", ["s3://user:password@bucket/a", "https://user:password@host", "s3://", "logs"])
def test_what_is_no_place_for_logs_is_refused(tmp_path: Path, sink: str) -> None:
    operator = OperatorProcess(tmp_path / "data", "--log-sink", sink)

    with pytest.raises(AssertionError, match="error: --log-sink: ") as refused:
        operator.start()

    assert "password@" not in str(refused.value)
