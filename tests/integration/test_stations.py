"""An operator whose workers run on machines elsewhere: what users see is what they see on one machine.

The machines are folders of this one, and what they share with the operator is a TCP connection for each worker.
"""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from operator_process import ELSEWHERE, TIMEOUT_SECONDS, OperatorProcess, follow_lines
from samples import HOG
from shared_operators import SharedOperators
from waiting import wait_until

pytestmark = pytest.mark.elsewhere

PREDICTOR = """
    import os
    from pathlib import Path

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.config = config
            self.total = job_spec["total_batch_count"]

        def predict(self, payload, batch_id):
            if self.config.get("raises") == "once":
                seen = Path(self.config["folder"]) / batch_id
                if not seen.exists():
                    seen.touch()
                    raise OSError("not yet")
            is_mended = os.path.exists(os.path.join(self.config["folder"], "mended"))
            if self.config.get("raises") == "always" and not is_mended and any(item % 5 == 3 for item in payload):
                raise ValueError(f"no {payload}")
            print("predicts", payload[0], "of", self.total, flush=True)
            if self.config.get("returns", True):
                return [{"item": item, "id": batch_id[-4:]} for item in payload]

        def on_job_complete(self):
            with open(os.path.join(self.config["folder"], f"hook-{self.config['name']}"), "a") as hook:
                hook.write("ran\\n")
"""

RETRIES = {"attempts": 2, "backoff": "10ms"}

JOBS: dict[str, dict[str, Any]] = {
    "inline": {},
    "rowless": {"config": {"returns": False}},
    "retried": {"config": {"raises": "once"}, "retries": RETRIES},
    "failing": {"config": {"raises": "always"}},
    "isolated": {"config": {"raises": "always"}, "retries": RETRIES, "on_failed_batch": "isolate"},
    "lines": {"is_file": True},
}


@pytest.fixture
def elsewhere(shared_operators: SharedOperators) -> Iterator[OperatorProcess]:
    """An operator with stations."""
    with shared_operators.one("--heartbeat", "2", program=ELSEWHERE) as operator:
        yield operator


def outcome(operator: OperatorProcess, name: str, job: str, folder: Path) -> dict[str, Any]:
    """Give what has come of a job, without what is of this run of it only."""
    status = operator.wait(job)
    failures = [json.loads(line) for line in operator.http.get(f"/api/{job}/failures").text.splitlines()]
    hook = folder / f"hook-{name}"
    return {
        "status": status["status"],
        "metrics": {key: value for key, value in status["batch_metrics"].items() if isinstance(value, int)},
        "rows": [row["item"] for row in operator.rows(job)],
        "failures": [(each["first_item"], each["items"], each["attempts"], each["message"]) for each in failures],
        "printed": sorted(line for line in operator.log(job).splitlines() if line.startswith("predicts")),
        "hook": hook.read_text() if hook.exists() else "",
    }


def outcomes(operator: OperatorProcess, folder: Path) -> dict[str, dict[str, Any]]:
    """Run a job of each kind at the same time, and give what has come of them."""
    folder.mkdir()
    items = list(range(60))
    (folder / "items.json").write_text("".join(f"{item}\n" for item in items))
    operator.deploy(PREDICTOR)
    jobs = {}
    for name, about in JOBS.items():
        request = {"workers": 2, **about, "config": {"name": name, "folder": str(folder), **about.get("config", {})}}
        if request.pop("is_file", False):
            request["delimited_files"] = {"s3_paths": [str(folder / "items.json")], "batch_size": 4}
        else:
            request["item_list"] = {"items": items, "batch_size": 4}
        answer = operator.http.post("/api", json=request)
        assert answer.status_code == 200, answer.text
        jobs[name] = answer.json()["job_id"]
    return {name: outcome(operator, name, job, folder) for name, job in jobs.items()}


def test_jobs_give_elsewhere_what_they_give_here(
    elsewhere: OperatorProcess, tmp_path: Path, start_operator: Callable[..., OperatorProcess]
) -> None:
    here = start_operator("--keep-warm", "0")

    expected = outcomes(here, tmp_path / "here")
    found = outcomes(elsewhere, tmp_path / "elsewhere")

    assert expected == found
    assert ["ran\n"] * len(JOBS) == [each["hook"] for each in expected.values()]
    assert "" == elsewhere.errors()


def test_a_worker_elsewhere_is_named_with_its_node(elsewhere: OperatorProcess) -> None:
    elsewhere.deploy("""
        import os

        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                raise ValueError(os.getpid())
    """)

    job = elsewhere.submit([1])
    elsewhere.wait(job)

    failure = json.loads(elsewhere.http.get(f"/api/{job}/failures").text)
    name = f"pid-{failure['message']}@node-1"
    assert name == failure["worker"]
    assert "node" not in failure
    assert f":cortex:{name}:INFO:loading the predictor from predictor.py" in elsewhere.log(job)


WAITER = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            with open(f"{self.config['folder']}/runs", "a") as runs:
                runs.write(f"{payload[0]}\\n")
            if payload == [3]:
                print("in predict", flush=True)
                while not os.path.exists(f"{self.config['folder']}/gate"):
                    time.sleep(0.01)
            return payload
"""


def test_a_job_elsewhere_is_stopped_at_once_and_leaves_no_process(elsewhere: OperatorProcess, tmp_path: Path) -> None:
    elsewhere.deploy(WAITER, config={"folder": str(tmp_path)})
    job = elsewhere.submit(list(range(8)))
    assert "in predict" in follow_lines(elsewhere, job)

    answer = elsewhere.http.delete(f"/api/{job}")
    status = elsewhere.wait(job)

    assert (200, "status_stopped") == (answer.status_code, status["status"])
    assert [0, 1, 2] == elsewhere.rows(job)
    wait_until(lambda: not elsewhere.worker_processes(), "they are gone")


def test_a_job_elsewhere_that_is_paused_ends_what_it_has_begun_and_goes_on_later(
    elsewhere: OperatorProcess, tmp_path: Path
) -> None:
    elsewhere.deploy(WAITER, config={"folder": str(tmp_path)})
    job = elsewhere.submit(list(range(8)))
    assert "in predict" in follow_lines(elsewhere, job)

    elsewhere.http.post(f"/api/{job}/pause")
    (tmp_path / "gate").touch()
    wait_until(lambda: not elsewhere.worker_processes(), "they have ended")
    paused = elsewhere.status(job)
    elsewhere.http.post(f"/api/{job}/resume")
    status = elsewhere.wait(job)

    assert ("status_paused", 4) == (paused["status"], paused["batch_metrics"]["succeeded"])
    assert "status_succeeded" == status["status"]
    assert [str(item) for item in range(8)] == (tmp_path / "runs").read_text().split()


def test_a_rerun_elsewhere_keeps_what_has_succeeded_also_in_part(elsewhere: OperatorProcess, tmp_path: Path) -> None:
    config = {"folder": str(tmp_path), "name": "rerun"}
    elsewhere.deploy(PREDICTOR)
    broken = {**config, "raises": "always"}
    job = elsewhere.submit(list(range(20)), batch_size=4, config=broken, on_failed_batch="isolate")
    first = elsewhere.wait(job)

    (tmp_path / "mended").touch()
    again = str(elsewhere.http.post(f"/api/{job}/rerun", json={}).json()["job_id"])
    status = elsewhere.wait(again)

    assert ("status_completed_with_failures", 4) == (first["status"], first["batch_metrics"]["failed"])
    assert "status_succeeded" == status["status"], elsewhere.log(again)
    assert list(range(20)) == [row["item"] for row in elsewhere.rows(again)]
    printed = [line for line in elsewhere.log(again).splitlines() if line.startswith("predicts")]
    assert ["predicts 13 of", "predicts 18 of", "predicts 3 of", "predicts 8 of"] == sorted(
        line.rpartition(" ")[0] for line in printed
    )


GENEROUS = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            (item,) = payload
            return [char * 2**20 for char in item[:20]] if item[0] == "a" else [len(item)]
"""


def test_a_lease_and_what_a_batch_returns_may_be_larger_than_any_frame(
    elsewhere: OperatorProcess, tmp_path: Path
) -> None:
    items = ["abcdefghijklmnopqrst" + str(number) * 200_000 for number in range(2)]
    items += ["z" * 200_000 for _ in range(80)]
    (tmp_path / "lines.json").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    elsewhere.deploy(GENEROUS)
    request = {"workers": 1, "delimited_files": {"s3_paths": [str(tmp_path / "lines.json")], "batch_size": 1}}

    job = str(elsewhere.http.post("/api", json=request).json()["job_id"])
    status = elsewhere.wait(job)
    rows = elsewhere.rows(job)

    assert "status_succeeded" == status["status"], elsewhere.log(job)
    assert ([char * 2**20 for char in items[0][:20]],) * 2 == (*rows[:2],)
    assert [200_000] * 80 == rows[2:]


def test_a_worker_elsewhere_that_uses_too_much_memory_is_told_so(elsewhere: OperatorProcess) -> None:
    elsewhere.deploy(HOG, compute={"cpu": 1, "mem": "256Mi"})
    job = elsewhere.submit([6, 7, 8])

    status = elsewhere.wait(job)

    assert {"succeeded": 2, "failed": 1} == {key: status["batch_metrics"][key] for key in ("succeeded", "failed")}
    assert "ran out of memory: it is limited to 256Mi (compute.mem)" in elsewhere.log(job)


VERSIONED = """
    class PythonPredictor:
        def __init__(self, config):
            self.version = config["version"]

        def predict(self, payload):
            return {"payload": payload, "version": self.version}
"""


def test_no_request_fails_while_an_api_elsewhere_is_updated(elsewhere: OperatorProcess) -> None:
    elsewhere.deploy_realtime(VERSIONED, config={"version": 1}, sections={"autoscaling": {"min_replicas": 2}})
    wait_until(lambda: elsewhere.http.post("/api", json=0).status_code == 200, "it serves")
    answers: list[httpx.Response] = []

    def ask() -> None:
        with httpx.Client(base_url=elsewhere.address, timeout=TIMEOUT_SECONDS) as http:
            while not answers or answers[-1].status_code != 200 or answers[-1].json()["version"] == 1:
                answers.append(http.post("/api", json="x" * 100_000))

    client = threading.Thread(target=ask)
    client.start()
    elsewhere.deploy_realtime(VERSIONED, config={"version": 2}, sections={"autoscaling": {"min_replicas": 2}})
    client.join(TIMEOUT_SECONDS)

    assert [200] == sorted({answer.status_code for answer in answers})
    assert [1, 2] == sorted({answer.json()["version"] for answer in answers})
    assert {"x" * 100_000} == {answer.json()["payload"] for answer in answers}
