"""Large files of lines in S3 are written down as they come; the job's own file is what it is run from, and again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.layout import JobFolder
from cortex.enqueuing.events import IN_PLACE_FROM_BYTES
from operator_process import OperatorProcess, follow_lines
from s3_server import S3

PREDICTOR = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.gate = config["gate"]

        def predict(self, payload):
            first = payload[0]["number"]
            if first == 10_000 and not os.path.exists(self.gate):
                print("waiting", flush=True)
                while not os.path.exists(self.gate):
                    time.sleep(0.01)
            if first == 5000 and not os.path.exists(self.gate + ".mended"):
                raise ValueError("bad")
            return first
"""

LINES = 100_000
BATCH_SIZE = 1000
ITEMS = [{"number": number, "padding": "x" * (IN_PLACE_FROM_BYTES // LINES)} for number in range(LINES)]
TEXT = "".join(f"{json.dumps(item)}\n" for item in ITEMS).encode()


@pytest.fixture
def server(start_operator: Callable[..., OperatorProcess], s3: S3) -> OperatorProcess:
    """An operator that reaches S3, where there is a file that is large enough."""
    s3.put("in/lines", body=TEXT)
    server = start_operator(env=s3.env)
    server.deploy(PREDICTOR)
    return server


def submit(server: OperatorProcess, s3: S3, gate: Path, **more: Any) -> str:
    source = {"s3_paths": [s3.url("in/")], "batch_size": BATCH_SIZE}
    body = {"workers": 1, "delimited_files": source, "config": {"gate": str(gate)}, **more}
    response = server.http.post("/api", json=body)
    assert 200 == response.status_code, response.text
    return str(response.json()["job_id"])


def folder_of(server: OperatorProcess, job: str) -> JobFolder:
    return JobFolder(server.data_dir / "jobs" / job)


def failures(server: OperatorProcess, job: str, **query: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.http.get(f"/api/{job}/failures", params=query).text.splitlines()]


def test_a_job_of_lines_that_came_from_s3_needs_s3_no_more(server: OperatorProcess, s3: S3, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    output = {"path": str(tmp_path / "out"), "include_input": True}
    job = submit(server, s3, gate, results=output)

    assert "status_completed_with_failures" == server.wait(job)["status"]
    s3.put("in/lines", body=b"another content")

    assert TEXT == folder_of(server, job).lines(0).read_bytes()
    assert [] == list(folder_of(server, job).segments.glob("*.payload"))
    assert [ITEMS[5000:6000]] == [each["items"] for each in failures(server, job, items="true")]
    written = [
        json.loads(line)
        for path in sorted((tmp_path / "out" / job).glob("part-*"))
        for line in path.read_text().splitlines()
    ]
    assert ITEMS[:BATCH_SIZE] == written[0]["input"]
    assert server.http.get(f"/api/{job}/verify").json()["is_intact"]

    Path(f"{gate}.mended").touch()
    rerun = str(server.http.post(f"/api/{job}/rerun", json={}).json()["job_id"])
    assert "status_succeeded" == server.wait(rerun)["status"]
    assert list(range(0, LINES, BATCH_SIZE)) == server.rows(rerun)
    assert folder_of(server, job).lines(0).samefile(folder_of(server, rerun).lines(0))


def test_lines_that_are_damaged_afterwards_fail_their_batches_only(
    server: OperatorProcess, s3: S3, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    Path(f"{gate}.mended").touch()
    job = submit(server, s3, gate)
    assert "waiting" in follow_lines(server, job)

    with folder_of(server, job).lines(0).open("r+b") as lines:
        lines.seek(-10, 2)
        lines.write(b"y")
    gate.touch()

    assert "status_completed_with_failures" == server.wait(job)["status"]
    assert list(range(0, LINES - BATCH_SIZE, BATCH_SIZE)) == server.rows(job)
    assert ["DataDamaged"] == [failure["type"] for failure in failures(server, job)]
    assert not server.http.get(f"/api/{job}/verify").json()["is_intact"]
