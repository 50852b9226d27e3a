"""`cortex prune` and `--disk-budget` with a real operator."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import MAX_REQUEST_BYTES
from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from waiting import wait_until

ECHO = """
    class PythonPredictor:
        def __init__(self, config): pass
        def predict(self, payload): return payload
"""

GATED = """
    class PythonPredictor:
        def __init__(self, config): self.gate = config["gate"]
        def predict(self, payload):
            print("in predict", flush=True)
            with open(self.gate) as gate: gate.read()
            return payload
"""


def cortex(operator: OperatorProcess, home: Path, *words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the command line against an operator."""
    env = {**os.environ, "HOME": str(home), "CORTEX_CLI_CONFIG_DIR": str(home / "config")}
    configure = ["env", "configure", "here", "--operator-endpoint", operator.address]
    for command in (configure, [*words, "--env", "here"]):
        ended = subprocess.run(
            [sys.executable, "-m", "cortex", *command],
            input=answer,
            env=env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    return ended


def prune(operator: OperatorProcess, **wanted: Any) -> dict[str, dict[str, int]]:
    response = operator.http.post("/_cortex/prune", json=wanted)
    assert response.status_code == 200, response.text
    return {one.pop("kind"): one for one in response.json()["removed"]}


def ids(operator: OperatorProcess) -> list[str]:
    return [job["job_id"] for job in operator.http.get("/api").json()["jobs"]]


def test_ended_jobs_go_and_those_in_progress_stay(operator: OperatorProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    operator.deploy(ECHO)
    operator.deploy(GATED, name="gated", config={"gate": str(gate)})
    ended = [operator.submit([number] * 1000) for number in range(3)]
    for job in ended:
        operator.wait(job)
    running = operator.submit([1], api="gated")
    assert "in predict" in follow_lines(operator, running, api="gated")

    said = prune(operator, older_than="0s", environments=True, dry_run=True)
    between = ids(operator)
    told = prune(operator, older_than="0s", environments=True)
    gate.write_text("")

    assert said == told
    assert (3, ended[::-1]) == (told["jobs"]["count"], between)
    assert told["jobs"]["bytes"] > 10_000
    assert [] == ids(operator)
    assert [running] == [path.name for path in (operator.data_dir / "jobs").iterdir()]
    assert "status_succeeded" == operator.wait(running, api="gated")["status"]
    assert [1] == operator.rows(running, api="gated")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"older_than": "soon"}, "older_than: got `soon`, must be a number of seconds"),
        ({"keep": -1}, "keep: got `-1` (integer), must be at least 0"),
        ({"older_than": True}, "older_than: got `true` (boolean), must be a number of seconds"),
        ({"jobs": True}, "jobs: unknown field (allowed: dry_run, environments, keep, older_than)"),
        ([], "the request must be a JSON object"),
    ],
)
def test_a_wrong_request_is_refused_and_removes_nothing(operator: OperatorProcess, wanted: Any, said: str) -> None:
    operator.deploy(ECHO)
    job = operator.submit([1])
    operator.wait(job)

    answer = operator.http.post("/_cortex/prune", json=wanted)

    assert 400 == answer.status_code
    assert said in answer.json()["message"]
    assert [job] == ids(operator)


def test_a_request_to_prune_may_be_no_larger_than_any_other(operator: OperatorProcess) -> None:
    answer = operator.http.post("/_cortex/prune", content=b" " * MAX_REQUEST_BYTES)

    assert (413, "request.too_large") == (answer.status_code, answer.json()["kind"])


def test_the_command_removes_nothing_where_nobody_answers(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(ECHO)
    job = operator.submit([1])
    operator.wait(job)

    ended = cortex(operator, tmp_path, "prune", "--older-than", "0s", answer="")

    assert 1 == ended.returncode
    assert ended.stderr.endswith(
        "error: nobody has answered: nothing was removed\n\nhint: --yes removes without asking\n"
    )
    assert [job] == ids(operator)


def test_the_command_shows_asks_and_removes(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(ECHO)
    jobs = []
    for number in range(3):  # one after the other: those that ended last are kept
        jobs.append(operator.submit([number]))
        operator.wait(jobs[-1])

    dry = cortex(operator, tmp_path, "prune", "--keep", "1", "--dry-run")
    refused = cortex(operator, tmp_path, "prune", "--keep", "1", answer="n\n")
    after_no = ids(operator)
    removed = cortex(operator, tmp_path, "prune", "--keep", "1", answer="y\n")
    again = cortex(operator, tmp_path, "prune", "--keep", "1", "--yes", "-o", "json")

    assert dry.stdout.split() == refused.stdout.split()
    assert ["to", "be", "removed", "count", "size", "jobs", "2"] == dry.stdout.split()[:7]
    assert "nothing was removed" in refused.stderr
    assert jobs[::-1] == after_no
    assert ["removed", "count", "size", "jobs", "2"] == removed.stdout.split()[-7:-2]
    assert [jobs[2]] == ids(operator)
    assert {"dry_run": False, "bytes": 0} == {name: json.loads(again.stdout)[name] for name in ("dry_run", "bytes")}


def test_jobs_younger_than_a_week_stay_where_nothing_is_said(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(ECHO)
    job = operator.submit([1])
    operator.wait(job)

    told = cortex(operator, tmp_path, "prune", "--yes")

    assert ("", 0) == (told.stdout, told.returncode)
    assert "there is nothing to remove" in told.stderr
    assert [job] == ids(operator)


def test_a_budget_keeps_the_data_directory_small(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator("--keep-warm", "0", "--disk-budget", "1MB")
    operator.deploy(ECHO)
    first = operator.submit(["x" * 1000] * 200)
    operator.wait(first)
    jobs = [first]
    removed = f"job {first} was removed with its results"
    for _ in range(3):
        jobs.append(operator.submit(["x" * 1000] * 200))
        operator.wait(jobs[-1])

    wait_until(lambda: removed in operator.errors(), "the first job was removed")

    assert 404 == operator.http.get(f"/api/{first}").status_code
    assert jobs[-1] in ids(operator)
    assert ["x" * 1000] * 200 == operator.rows(jobs[-1])


def test_a_budget_that_nothing_can_be_removed_for_refuses_new_work(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator("--keep-warm", "0")
    operator.deploy(ECHO)
    operator.stop()
    operator._options = ("--keep-warm", "0", "--disk-budget", "1KB")
    operator.start()

    deadline = time.monotonic() + TIMEOUT_SECONDS
    while "no new work is taken" not in operator._errors.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    submission = operator.http.post("/api", json={"workers": 1, "item_list": {"items": [1], "batch_size": 1}})
    deployment = operator.try_to_deploy(ECHO)

    for answer in (submission, deployment):
        assert (507, "storage.full") == (answer.status_code, answer.json()["kind"])
        assert "more than its budget of 1.0 kB" in answer.json()["message"]
        assert "--disk-budget" in answer.json()["message"]
