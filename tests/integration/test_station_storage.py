"""With a storage that all machines reach, large payloads and results do not pass through the operator."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cut_link import CuttableLink
from operator_process import ELSEWHERE, DidNotStart, OperatorProcess
from ports import free_port
from s3_server import S3

pytestmark = pytest.mark.elsewhere

ECHO = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.gate = config["gate"]

        def predict(self, payload):
            while not os.path.exists(self.gate):
                time.sleep(0.01)
            return payload
"""
LINES = [json.dumps(f"{number:03} " + chr(97 + number % 26) * 100_000) for number in range(300)]  # 30 MB
SECONDS = 60


def until(condition: Callable[[], Any]) -> None:
    """Wait for a fact that nobody announces."""
    give_up_at = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An operator, its nodes, and the network between them."""

    operator: OperatorProcess
    network: CuttableLink
    folder: Path

    @property
    def gate(self) -> Path:
        """Batches wait until it is there."""
        return self.folder / "gate"

    def submit(self, path: str | Path, workers: int = 1, **request: Any) -> str:
        """Submit a job over lines, each of which is a Batch, and its own result."""
        self.operator.deploy(ECHO, config={"gate": str(self.gate)})
        dataset = {"s3_paths": [str(path)], "batch_size": 1}
        answer = self.operator.http.post("/api", json={"workers": workers, "delimited_files": dataset, **request})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def results(self, job: str) -> list[str]:
        return self.operator.http.get(f"/api/{job}/results").text.splitlines()

    def complaints(self, job: str) -> list[str]:
        """Give what the log of a job says against the storage."""
        return [line for line in self.operator.log(job).splitlines() if line.startswith("the storage (--storage)")]


Begin = Callable[[str], Cluster]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin with a storage."""
    with ExitStack() as stack:

        def begin(storage: str) -> Cluster:
            port = free_port()
            network = stack.enter_context(CuttableLink(port))
            operator = OperatorProcess(
                tmp_path / "shared" / "data",
                *("--channel-port", str(port), "--channel-address", f"127.0.0.1:{network.port}"),
                *("--storage", storage, "--heartbeat", "5"),
                program=ELSEWHERE,
            ).start()
            stack.callback(operator.http.close)
            stack.callback(lambda: operator.process is not None and operator.stop(at_once=True))
            return Cluster(operator=operator, network=network, folder=tmp_path)

        yield begin


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A dataset in a file."""
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f"{line}\n" for line in LINES))
    return path


def pieces(s3: S3) -> list[str]:
    return [url for url in s3.keys("some") if "/segments/" in url]


def put_as_dataset(s3: S3, lines: Path) -> str:
    s3.put("data/lines.jsonl", body=lines.read_bytes())
    return s3.url("data/lines.jsonl")


@pytest.mark.parametrize("dataset", ["in place", "from elsewhere"])
def test_a_large_job_passes_by_the_operator_through_s3(s3: S3, begin: Begin, lines: Path, dataset: str) -> None:
    cluster = begin(s3.url("some/prefix"))
    job = cluster.submit(lines if dataset == "in place" else put_as_dataset(s3, lines))
    until(lambda: len(pieces(s3)) == 4)
    cluster.gate.touch()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    assert cluster.network.forwarded_bytes < 5 * 10**6  # of 60: what small leases are about, at beginning and end
    assert [] == cluster.complaints(job)
    until(lambda: not s3.keys("some"))
    assert "" == cluster.operator.errors()


@pytest.mark.parametrize("is_data_inside", [True, False], ids=["with the data directory in it", "beside it"])
def test_a_large_job_passes_by_the_operator_through_a_shared_folder(
    begin: Begin, lines: Path, tmp_path: Path, is_data_inside: bool
) -> None:
    storage = tmp_path / ("shared" if is_data_inside else "other")
    storage.mkdir()
    cluster = begin(str(storage))
    job = cluster.submit(lines)
    if not is_data_inside:
        until(lambda: len(list(storage.glob("cortex-*/*/segments/*/*"))) == 4)
    cluster.gate.touch()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    assert cluster.network.forwarded_bytes < 5 * 10**6
    assert [] == cluster.complaints(job)
    until(lambda: not list(storage.glob("cortex-*/*")))
    assert "" == cluster.operator.errors()


def test_payloads_that_stations_may_not_read_come_over_the_channel(s3: S3, begin: Begin, lines: Path) -> None:
    cluster = begin(s3.url("some"))
    job = cluster.submit(lines)
    until(lambda: len(pieces(s3)) == 4)
    s3.faults.refuse("403 Forbidden", "AccessDenied", matching="/segments/", times=10**6)
    cluster.gate.touch()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    (complaint,) = cluster.complaints(job)
    assert "access is denied" in complaint


def test_what_cannot_be_written_to_the_storage_goes_over_the_channel(s3: S3, begin: Begin, lines: Path) -> None:
    cluster = begin(s3.url("some"))
    s3.faults.refuse("403 Forbidden", "AccessDenied", method="PUT", matching="some", times=10**6)
    job = cluster.submit(lines, workers=2)
    cluster.gate.touch()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    (complaint,) = cluster.complaints(job)
    assert "access is denied" in complaint


def test_rows_that_are_gone_before_they_are_copied_come_over_the_channel(s3: S3, begin: Begin, lines: Path) -> None:
    cluster = begin(s3.url("some"))
    s3.faults.refuse("404 Not Found", "NoSuchKey", matching="/rows/", times=10**6)
    job = cluster.submit(lines)
    cluster.gate.touch()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    (complaint,) = cluster.complaints(job)
    assert "/rows/" in complaint


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_an_operator_that_is_killed_at_the_storage_loses_and_doubles_nothing(
    s3: S3, begin: Begin, lines: Path, method: str
) -> None:
    cluster = begin(s3.url("some"))
    killed: list[int] = []

    def kill() -> None:
        assert cluster.operator.process is not None
        os.kill(cluster.operator.process.pid, signal.SIGKILL)
        killed.append(cluster.operator.process.pid)

    s3.faults.before(kill, method=method, matching="/rows/")
    job = cluster.submit(lines, workers=2)
    cluster.gate.touch()
    until(lambda: killed)
    cluster.operator.kill()
    cluster.operator.start()
    status = cluster.operator.wait(job)

    assert "status_succeeded" == status["status"], cluster.operator.log(job)
    assert LINES == cluster.results(job)
    assert [] == cluster.complaints(job)
    until(lambda: not s3.keys("some"))


def test_an_operator_does_not_start_with_a_storage_that_refuses(s3: S3, begin: Begin) -> None:
    s3.faults.refuse("403 Forbidden", "AccessDenied", method="PUT", times=9)

    with pytest.raises(DidNotStart, match=r"--storage: .*access is denied") as refused:
        begin(s3.url("some"))
    assert "hint: the operator's AWS credentials need `s3:PutObject`" in str(refused.value)
