"""Ended jobs do not stay for ever: `--keep-jobs` with a real operator."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess

ECHO = """
    class PythonPredictor:
        def __init__(self, config): pass
        def predict(self, payload): return payload * 20_000
"""

GATE = """
    import os
    class PythonPredictor:
        def __init__(self, config): self.gate = config["gate"]
        def predict(self, payload):
            with open(self.gate) as gate: gate.read()
"""


def folders(operator: OperatorProcess) -> set[str]:
    return {path.name for path in (operator.data_dir / "jobs").iterdir()}


def wait_until_gone(operator: OperatorProcess, job: str) -> str:
    """Ask until a job is not there any more, nor its folder; give what is said then."""
    for _ in range(TIMEOUT_SECONDS * 1000):
        response = operator.http.get(f"/api/{job}")
        if response.status_code == 404 and not any(name.startswith(job) for name in folders(operator)):
            return str(response.json()["message"])
        assert response.status_code in (200, 404), response.text
    raise AssertionError(f"{job} is still there")


def listed(operator: OperatorProcess) -> list[str]:
    return [job["job_id"] for job in operator.http.get("/api").json()["jobs"]]


def test_so_many_jobs_are_kept_and_those_in_progress_besides(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    operator = start_operator("--keep-jobs", "3")
    operator.deploy(ECHO)
    operator.deploy(GATE, name="gated", config={"gate": str(gate)})
    os.mkfifo(gate)
    first_running = operator.submit([1], api="gated")
    jobs = []
    for number in range(6):
        jobs.append(operator.submit([number]))
        operator.wait(jobs[-1])

    said = [wait_until_gone(operator, job) for job in jobs[:3]]
    gate.write_text("")

    assert f"there is no job `{jobs[0]}` of `api`" in said[0]
    assert "--keep-jobs" in said[0]
    assert jobs[:2:-1] == listed(operator)
    assert {first_running, *jobs[3:]} == folders(operator)
    assert operator.wait(first_running, api="gated")["status"] == "status_succeeded"


def test_jobs_that_are_too_old_are_gone_after_a_restart_with_the_version_that_nothing_else_needs(
    start_operator: Callable[..., OperatorProcess],
) -> None:
    operator = start_operator("--keep-jobs", "all")
    operator.deploy(ECHO)
    first = operator.submit([1])
    operator.wait(first)
    operator.deploy(ECHO + "\n    # another version\n")
    job = operator.submit([1])
    operator.wait(job)
    operator.stop()

    operator._options = ("--keep-jobs", "1s")
    operator.start()
    for one in (first, job):
        wait_until_gone(operator, one)

    assert listed(operator) == []
    assert len(list((operator.data_dir / "projects").iterdir())) == 1


def test_who_reads_a_job_that_is_removed_sees_a_clean_end(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-jobs", "1")
    operator.deploy(ECHO)
    job = operator.submit(["x" * 100] * 8)
    operator.wait(job)

    with httpx.stream("GET", f"{operator.address}/api/{job}/results", timeout=TIMEOUT_SECONDS) as response:
        chunks = response.iter_bytes()
        received = next(chunks)
        operator.wait(operator.submit([2]))
        wait_until_gone(operator, job)
        for chunk in chunks:
            received += chunk

    assert response.status_code == 200
    assert received.endswith(b"\n")
    assert "Traceback" not in operator.stop()


def test_what_does_not_say_how_long_jobs_are_kept_is_refused(tmp_path: Path) -> None:
    operator = OperatorProcess(tmp_path / "data", "--keep-jobs", "forever")

    with pytest.raises(AssertionError, match=r"error: --keep-jobs: `forever` does not say how long.*\n\nhint: "):
        operator.start()
