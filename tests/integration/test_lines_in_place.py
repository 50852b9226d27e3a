"""Large local files of lines stay where they are while their job runs; what happens to them is told by batch."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.layout import JobFolder
from cortex.enqueuing.events import IN_PLACE_FROM_BYTES
from operator_process import OperatorProcess, follow_lines
from processes import kill

PREDICTOR = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.gate, self.bad = config["gate"], config["bad"]

        def predict(self, payload):
            first = payload[0]["number"]
            if self.gate is not None and first >= 10_000 and not os.path.exists(self.gate):
                print("waiting", flush=True)
                while not os.path.exists(self.gate):
                    time.sleep(0.01)
            if first in self.bad and not os.path.exists(self.gate + ".mended"):
                raise ValueError("bad")
            return first
"""

LINES = 100_000
BATCH_SIZE = 1000
CHANGED = "has changed since the job was submitted"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A file that is large enough to stay where it is."""
    path = tmp_path / "lines"
    padding = "x" * (IN_PLACE_FROM_BYTES // LINES)
    path.write_text("".join(f'{{"number": {number}, "padding": "{padding}"}}\n' for number in range(LINES)))
    return path


@pytest.fixture
def server(operator: OperatorProcess) -> OperatorProcess:
    operator.deploy(PREDICTOR)
    return operator


def submit(server: OperatorProcess, lines: Path, *, gate: Path | None, bad: tuple[int, ...] = (), **more: Any) -> str:
    config = {"gate": None if gate is None else str(gate), "bad": bad}
    source = {"s3_paths": [str(lines)], "batch_size": BATCH_SIZE}
    response = server.http.post("/api", json={"workers": 1, "delimited_files": source, "config": config, **more})
    assert 200 == response.status_code, response.text
    return str(response.json()["job_id"])


def folder_of(server: OperatorProcess, job: str) -> JobFolder:
    return JobFolder(server.data_dir / "jobs" / job)


def failures(server: OperatorProcess, job: str, **query: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.http.get(f"/api/{job}/failures", params=query).text.splitlines()]


def verify(server: OperatorProcess, job: str) -> dict[str, Any]:
    response = server.http.get(f"/api/{job}/verify")
    assert 200 == response.status_code, response.text
    return dict(response.json())


def test_a_job_reads_its_lines_from_the_file_and_nothing_is_copied(server: OperatorProcess, lines: Path) -> None:
    job = submit(server, lines, gate=None)

    assert "status_succeeded" == server.wait(job)["status"]
    assert list(range(0, LINES, BATCH_SIZE)) == server.rows(job)
    assert [] == list(folder_of(server, job).segments.glob("*.payload"))
    assert {"path": str(lines), "size": lines.stat().st_size} == {
        name: value
        for name, value in json.loads(folder_of(server, job).source(0).read_bytes()).items()
        if name in ("path", "size")
    }
    assert (True, []) == (verify(server, job)["is_intact"], verify(server, job)["notes"])


def rewrite(lines: Path) -> None:
    with lines.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"y")


def cut(lines: Path) -> None:
    os.truncate(lines, lines.stat().st_size // 2)


@pytest.mark.parametrize("change", [rewrite, cut])
def test_what_was_not_read_before_a_file_changes_fails_with_that_reason_and_without_predict(
    server: OperatorProcess, lines: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    gate = tmp_path / "gate"
    job = submit(server, lines, gate=gate, retries=3)
    assert "waiting" in follow_lines(server, job)

    change(lines)
    gate.touch()
    status = server.wait(job)

    rows, failed = server.rows(job), failures(server, job)
    assert "status_completed_with_failures" == status["status"]
    assert rows == list(range(0, BATCH_SIZE * len(rows), BATCH_SIZE))
    assert LINES == BATCH_SIZE * (len(rows) + len(failed))
    assert 10 < len(rows) < LINES // BATCH_SIZE
    assert {("SourceChanged", f"`{lines}` {CHANGED}; predict was not called", 1)} == {
        (failure["type"], failure["message"], failure["attempts"]) for failure in failed
    }


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_worker_that_comes_after_a_file_has_gone_fails_its_batches(
    server: OperatorProcess, lines: Path, tmp_path: Path, is_replaced: bool
) -> None:
    gate = tmp_path / "gate"
    job = submit(server, lines, gate=gate)
    assert "waiting" in follow_lines(server, job)

    lines.rename(tmp_path / "elsewhere")
    if is_replaced:
        lines.write_bytes((tmp_path / "elsewhere").read_bytes())
    kill(*server.worker_processes())
    gate.touch()
    server.wait(job)

    expected = CHANGED if is_replaced else "has been removed since the job was submitted"
    assert {f"`{lines}` {expected}; predict was not called"} == {each["message"] for each in failures(server, job)}
    rows = server.rows(job)
    assert rows == list(range(0, BATCH_SIZE * len(rows), BATCH_SIZE))


def test_items_of_failed_batches_results_with_inputs_and_reruns_come_from_the_file(
    server: OperatorProcess, lines: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    output = {"path": str(tmp_path / "out"), "include_input": True}
    job = submit(server, lines, gate=gate, bad=(5000, 99_000), results=output)
    items = [json.loads(line) for line in lines.read_text().splitlines()]

    assert "status_completed_with_failures" == server.wait(job)["status"]
    assert [items[5000:6000], items[99_000:]] == [each["items"] for each in failures(server, job, items="true")]
    written = [
        json.loads(line)
        for path in sorted((tmp_path / "out" / job).glob("part-*"))
        for line in path.read_text().splitlines()
    ]
    assert LINES // BATCH_SIZE - 2 == len(written)
    assert items[:1000] == written[0]["input"]

    Path(f"{gate}.mended").touch()
    rerun = str(server.http.post(f"/api/{job}/rerun", json={}).json()["job_id"])
    assert "status_succeeded" == server.wait(rerun)["status"]
    assert list(range(0, LINES, BATCH_SIZE)) == server.rows(rerun)


def test_once_the_file_has_changed_results_stay_but_what_failed_cannot_be_rerun(
    server: OperatorProcess, lines: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    job = submit(server, lines, gate=gate, bad=(5000,))
    assert "status_completed_with_failures" == server.wait(job)["status"]

    rewrite(lines)
    rerun = server.http.post(f"/api/{job}/rerun", json={})
    found = verify(server, job)

    assert (500, "storage.damaged") == (rerun.status_code, rerun.json()["kind"])
    assert f"cannot be rerun: `{lines}` {CHANGED}\n\nhint: submit its dataset again" in rerun.json()["message"]
    assert 99 == len(server.rows(job))
    assert found["is_intact"]
    assert f"`{lines}` {CHANGED}, so its batches cannot be run again" in found["notes"]
    items = server.http.get(f"/api/{job}/failures", params={"items": "true"})
    assert (500, "storage.damaged") == (items.status_code, items.json()["kind"])
    assert f"`{lines}` {CHANGED}\n\nhint: submit the dataset again" in items.json()["message"]
