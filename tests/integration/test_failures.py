"""What goes wrong in the user's code or project: each with a message, nothing left running, the operator healthy."""

import json
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines

WORKING = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""


@pytest.fixture(autouse=True)
def _nothing_is_left_and_the_operator_is_healthy(operator: OperatorProcess):
    yield
    assert psutil.wait_procs(operator.worker_processes(), timeout=TIMEOUT_SECONDS)[1] == []
    operator.deploy(WORKING, name="healthy")
    job = operator.submit([1], api="healthy")
    assert operator.wait(job, api="healthy")["status"] == "status_succeeded"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class Predictor:\n    pass\n", ["predictor.py", "PythonPredictor"]),
        (
            "class PythonPredictor:\n    def __init__(self):\n        pass\n\n    def predict(self):\n        pass\n",
            ["predictor.py:2", "__init__", "config"],
        ),
        ("class PythonPredictor:\n    def __init__(self, config):\n        pass\n", ["predict"]),
        ("class PythonPredictor(:\n", ["predictor.py:1", "syntax"]),
    ],
)
def test_a_class_that_cannot_work_is_refused_at_deploy(operator: OperatorProcess, source: str, said: list[str]) -> None:
    response = operator.try_to_deploy(source)

    assert (response.status_code, response.json()["kind"]) == (400, "predictor.invalid")
    for word in said:
        assert word.lower() in response.json()["message"].lower()
    assert operator.http.get("/api").status_code == 404


def test_an_init_that_raises_ends_the_job_as_worker_error(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        class PythonPredictor:
            def __init__(self, config):
                raise ValueError("'dest_s3_dir' field was not provided in job submission")

            def predict(self, payload):
                pass
        """
    )
    job = operator.submit([1, 2, 3], workers=2)

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert "ValueError: 'dest_s3_dir' field was not provided in job submission" in status["status_reason"]
    assert status["batches_in_queue"] == 3
    log = operator.log(job)
    assert "raise ValueError(\"'dest_s3_dir' field was not provided in job submission\")" in log
    assert log.splitlines()[-1].startswith("worker error: ")
    assert log.count("loading the predictor") <= 2  # no endless loop


def test_an_import_that_fails_ends_the_job_as_worker_error(operator: OperatorProcess) -> None:
    operator.deploy("import no_such_module\n" + WORKING.replace("\n    ", "\n"))
    job = operator.submit([1])

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert "No module named 'no_such_module'" in status["status_reason"]


def test_a_predict_that_raises_fails_its_batch_alone(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return [100 // item for item in payload]

            def on_job_complete(self):
                print("the hook ran")
        """
    )
    job = operator.submit([1, 2, 0, 4, 5])

    status = operator.wait(job)

    assert status["status"] == "status_completed_with_failures"
    assert status["batch_metrics"]["failed"] == 1
    assert "1 of 5 batches failed" in status["status_reason"]
    assert "ZeroDivisionError: integer division or modulo by zero" in status["status_reason"]
    assert operator.rows(job) == [100, 50, 25, 20]
    assert "the hook ran" in operator.log(job)
    (failure,) = operator.http.get(f"/api/{job}/failures").text.splitlines()
    assert "ZeroDivisionError" in failure


def test_requirements_that_do_not_exist_end_the_job_with_the_installers_words(operator: OperatorProcess) -> None:
    operator.deploy(WORKING, files={"requirements.txt": "no-such-package-of-anybody-9f3a==1.0\n"})
    job = operator.submit([1])

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert "no-such-package-of-anybody-9f3a" in status["status_reason"]
    assert "no-such-package-of-anybody-9f3a" in operator.log(job)
    environment = operator.http.get("/_cortex/apis/api").json()["environment"]
    assert environment["status"] == "failed"
    assert "no-such-package-of-anybody-9f3a" in environment["message"]


def test_a_batch_that_kills_its_worker_is_given_up_alone(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import os
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                if payload == [37]:
                    os._exit(3)
                return payload
        """
    )
    job = operator.submit(list(range(200)), workers=2)

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert "exited with code 3" in status["status_reason"]
    assert status["batch_metrics"] == {**status["batch_metrics"], "succeeded": 199, "failed": 1}
    assert [item for item in range(200) if item != 37] == operator.rows(job)
    log = operator.log(job)
    assert [log.count(f"(death {number} of 3)") for number in (1, 2)] == [1, 1]
    assert log.count("given up after 3 deaths") == 1
    (failure,) = [json.loads(line) for line in operator.http.get(f"/api/{job}/failures?follow=true").text.splitlines()]
    assert {
        "batch_id": failure["batch_id"],
        "first_item": 37,
        "items": 1,
        "type": "WorkerDied",
        "message": "its worker exited with code 3",
        "attempts": 3,
    } == failure
    items = operator.http.get(f"/api/{job}/failures?items=true&follow=true")
    assert {"batch_id": failure["batch_id"], "items": [37]} == items.json()


def test_a_hook_that_raises_is_a_worker_error_and_runs_once(operator: OperatorProcess) -> None:
    operator.deploy(WORKING + "\n        def on_job_complete(self):\n            raise RuntimeError('no bucket')\n")
    job = operator.submit([1, 2], workers=2)

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert status["status_reason"] == "on_job_complete failed: RuntimeError: no bucket"
    assert operator.log(job).count("executing on_job_complete") == 1
    assert operator.rows(job) == [1, 2]


def test_a_hook_whose_worker_dies_is_not_run_again(operator: OperatorProcess) -> None:
    operator.deploy(WORKING + "\n        def on_job_complete(self):\n            import os; os._exit(9)\n")
    job = operator.submit([1])

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert status["status_reason"] == "on_job_complete failed: the worker that ran it exited with code 9"
    assert "exited with code 9 in `on_job_complete`\n" in operator.log(job)
    assert operator.log(job).count("executing on_job_complete") == 1


def test_what_is_not_json_fails_the_batch_and_says_so(operator: OperatorProcess) -> None:
    operator.deploy(WORKING.replace("return payload", "return object()"))
    job = operator.submit([1])

    status = operator.wait(job)

    assert status["status"] == "status_completed_with_failures"
    assert "predict returned a value that is not JSON" in status["status_reason"]


def test_a_flood_of_output_is_bounded_and_blocks_nobody(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "0", "--log-limit", "1MB")
    operator.deploy(
        """
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                for _ in range(50_000):
                    print("x" * 99)
        """
    )
    job = operator.submit([1, 2, 3])

    status = operator.wait(job)

    assert status["status"] == "status_succeeded"
    log = operator.log(job)
    assert len(log) < 1_100_000
    assert "the log has reached its limit" in log


def test_a_worker_that_ignores_the_end_is_killed(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import signal, threading, time
        class PythonPredictor:
            def __init__(self, config):
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                threading.Thread(target=time.sleep, args=(600,)).start()

            def predict(self, payload):
                return payload
        """
    )
    job = operator.submit([1])

    assert operator.wait(job)["status"] == "status_succeeded"


def test_what_a_worker_started_ends_with_it(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import subprocess, sys
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
        """
    )
    job = operator.submit([1])

    operator.wait(job)

    (pid,) = operator.rows(job)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(TIMEOUT_SECONDS)


def test_exit_in_predict_fails_the_batch_alone(operator: OperatorProcess) -> None:
    operator.deploy(WORKING.replace("return payload", "raise SystemExit(1) if payload == [1] else ValueError()"))
    job = operator.submit([1, 2])

    status = operator.wait(job)

    assert status["status"] == "status_completed_with_failures"
    assert status["batch_metrics"]["failed"] == 2


def test_workers_that_still_construct_are_counted_as_initializing(operator: OperatorProcess, tmp_path) -> None:
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                print("constructing", flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)

            def predict(self, payload):
                pass
        """
    )
    job = operator.submit([1])
    assert "constructing" in follow_lines(operator, job)

    counts = operator.status(job)["worker_counts"]
    gate.touch()

    expected = {"pending": 0, "initializing": 1, "running": 0, "succeeded": 0, "failed": 0, "stalled": 0}
    assert expected == counts
    assert "worker_counts" not in operator.wait(job)


def test_the_items_that_failed_of_isolated_batches_are_told_and_can_be_submitted_again(
    operator: OperatorProcess,
) -> None:
    operator.deploy(
        """
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return [100 // item for item in payload]
        """
    )
    job = operator.submit([1, 2, 0, 4, 5, 0, 0, 10], batch_size=4, on_failed_batch="isolate", retries=1)

    status = operator.wait(job)

    assert ("status_completed_with_failures", {"succeeded": 5, "failed": 3}) == (
        status["status"],
        status["item_metrics"],
    )
    assert [100, 50, 25, 20, 10] == operator.rows(job)
    failures = [json.loads(line) for line in operator.http.get(f"/api/{job}/failures").text.splitlines()]
    assert [(2, 1), (5, 1), (6, 1)] == [(each["first_item"], each["items"]) for each in failures]
    assert {(2, "ZeroDivisionError")} == {(each["attempts"], each["type"]) for each in failures}
    items = operator.http.get(f"/api/{job}/failures", params={"items": "true"}).text.splitlines()
    assert [[0]] * 3 == [json.loads(line)["items"] for line in items]
    assert [each["batch_id"] for each in failures] == [json.loads(line)["batch_id"] for line in items]
