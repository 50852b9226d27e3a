"""A job from its submission to its end, with real processes."""

import json
from collections.abc import Callable

import psutil

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines

DOUBLER = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return [{"item": item, "doubled": item * 2} for item in payload]

        def on_job_complete(self):
            print("the hook ran")
"""


def test_every_result_appears_once_in_input_order_and_no_process_is_left(operator: OperatorProcess) -> None:
    operator.deploy(DOUBLER)
    job = operator.submit(list(range(10_000)), batch_size=10, workers=2)
    status = operator.wait(job)
    processes = operator.worker_processes()

    _, alive = psutil.wait_procs(processes, timeout=TIMEOUT_SECONDS)

    assert alive == []
    assert status["status"] == "status_succeeded"
    assert status["batch_metrics"]["succeeded"] == 1000
    assert [{"item": item, "doubled": item * 2} for item in range(10_000)] == operator.rows(job)
    assert operator.log(job).count("the hook ran") == 1


def test_results_can_be_followed_while_the_job_runs(operator: OperatorProcess, tmp_path) -> None:
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                while payload == [2] and not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
                return payload
        """
    )
    job = operator.submit([0, 1, 2, 3])

    with operator.http.stream("GET", f"/api/{job}/results?follow=true") as response:
        lines = response.iter_lines()
        first_two = [next(lines), next(lines)]
        while_running = operator.status(job)
        gate.touch()
        rest = list(lines)

    assert first_two == ["0", "1"]
    assert while_running["status"] == "status_running"
    assert while_running["worker_counts"]["running"] == 1
    assert rest == ["2", "3"]


def test_a_predictor_may_return_nothing_rows_or_any_value(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import numpy as np
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return {
                    "nothing": None,
                    "rows": ["a", "b"],
                    "short": ["a"],
                    "object": {"n": 12345678901234567890123},
                    "array": np.array([1.5, 2.5]),
                    "text": "ä\\n",
                }[payload[0]]
        """
    )
    kinds = ["nothing", "rows", "short", "object", "array", "text"]
    job = operator.submit([item for kind in kinds for item in (kind, 0)], batch_size=2)

    status = operator.wait(job)

    assert status["status"] == "status_succeeded", operator.log(job)
    assert operator.rows(job) == ["a", "b", ["a"], {"n": 12345678901234567890123}, 1.5, 2.5, "ä\n"]


def test_the_predictor_gets_what_it_names(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import os, sys
        class PythonPredictor:
            def __init__(self, config, job_spec):
                self.seen = {"config": config, "job_spec": job_spec, "cwd_has": sorted(os.listdir("."))}

            def predict(self, payload, batch_id):
                import helper
                variables = {name: os.environ.get(name) for name in ("A", "B", "C", "CORTEX_API_NAME", "CORTEX_JOB_ID")}
                return {**self.seen, "payload": payload, "batch_id": batch_id, "env": variables, "helper": helper.NAME}
        """,
        config={"model": {"path": "m", "size": 1}, "labels": [1]},
        env={"B": "from predictor.env"},
        python_path="lib",
        files={"lib/helper.py": "NAME = 'helper'\n", ".env": 'A=1\nB=2\nC="with $A"\n'},
    )
    job = operator.submit(["x"], config={"model": {"size": 2}, "labels": [2]})

    status = operator.wait(job)

    (seen,) = operator.rows(job)
    assert seen["config"] == {"model": {"path": "m", "size": 2}, "labels": [2]}
    assert seen["job_spec"]["job_id"] == job
    assert seen["job_spec"]["total_batch_count"] == 1
    assert seen["job_spec"]["config"] == {"model": {"size": 2}, "labels": [2]}
    assert seen["job_spec"]["start_time"] == status["start_time"]
    assert seen["payload"] == ["x"]
    assert seen["helper"] == "helper"
    variables = {"A": "1", "B": "from predictor.env", "C": "with 1", "CORTEX_API_NAME": "api", "CORTEX_JOB_ID": job}
    assert seen["env"] == variables


def test_the_log_reads_as_the_tutorial_shows_it(operator: OperatorProcess) -> None:
    operator.deploy(DOUBLER)
    job = operator.submit([1, 2, 3, 4, 5], batch_size=2)

    lines = list(follow_lines(operator, job))

    assert lines[:4] == [
        "started enqueuing batches to queue",
        "partitioning 5 items found in job submission into 3 batches of size 2",
        "completed enqueuing a total of 3 batches",
        "spinning up workers...",
    ]
    messages = [line.split(":INFO:")[-1] for line in lines[4:]]
    assert messages[0] == "loading the predictor from predictor.py"
    assert [message.split()[0] for message in messages[1:4]] == ["processing"] * 3
    assert messages[4:] == [
        "executing on_job_complete",
        "the hook ran",
        "no batches left in queue, job has been completed",
    ]


def test_a_stopped_job_keeps_what_it_has_done(operator: OperatorProcess) -> None:
    operator.deploy(
        """
        import time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                if payload == [3]:
                    print("at the slow one", flush=True)
                    time.sleep(600)
                return payload

            def on_job_complete(self):
                print("the hook ran")
        """
    )
    job = operator.submit([0, 1, 2, 3, 4, 5])
    assert "at the slow one" in follow_lines(operator, job)

    response = operator.http.delete(f"/api?jobID={job}")
    again = operator.http.delete(f"/api/{job}")

    status = operator.status(job)
    assert response.json() == {"message": f"stopped job {job}"}
    assert status["status"] == "status_stopped"
    assert status["batch_metrics"]["succeeded"] == 3
    assert status["batches_in_queue"] == 3
    assert operator.rows(job) == [0, 1, 2]
    assert "the hook ran" not in operator.log(job)
    assert (again.status_code, again.json()["kind"]) == (409, "job.not_in_progress")
    assert psutil.wait_procs(operator.worker_processes(), timeout=TIMEOUT_SECONDS)[1] == []


def test_deleting_an_api_stops_its_jobs_and_forgets_them(operator: OperatorProcess) -> None:
    operator.deploy(DOUBLER)
    ended = operator.submit([1])
    operator.wait(ended)
    operator.deploy(
        """
        import time
        class PythonPredictor:
            def __init__(self, config):
                print("constructing", flush=True)
                time.sleep(600)

            def predict(self, payload):
                pass
        """
    )
    running = operator.submit([1])
    assert "constructing" in follow_lines(operator, running)

    response = operator.http.delete("/_cortex/apis/api")

    assert response.json() == {"message": "deleting api"}
    assert operator.http.get("/api").status_code == 404
    assert list((operator.data_dir / "jobs").iterdir()) == []
    assert list((operator.data_dir / "projects").iterdir()) == []
    assert psutil.wait_procs(operator.worker_processes(), timeout=TIMEOUT_SECONDS)[1] == []


def test_deploying_again_changes_nothing_for_running_jobs(operator: OperatorProcess, tmp_path) -> None:
    gate = tmp_path / "gate"
    source = """
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                print("constructed", flush=True)
                while not os.path.exists({gate!r}):
                    time.sleep(0.01)

            def predict(self, payload):
                return "{version}"
        """
    operator.deploy(source.format(gate=str(gate), version="old"))
    old = operator.submit([1])
    assert any("constructed" in line for line in follow_lines(operator, old))
    operator.deploy(source.format(gate=str(gate), version="new"))
    new = operator.submit([1])

    gate.touch()

    assert operator.wait(old)["api_id"] != operator.wait(new)["api_id"]
    assert (operator.rows(old), operator.rows(new)) == (["old"], ["new"])


def test_history_and_results_are_there_after_a_restart(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "0")
    operator.deploy(DOUBLER)
    jobs = [operator.submit([number]) for number in range(3)]
    before = [operator.wait(job) for job in jobs]

    operator.stop()
    operator.start()

    listed = operator.http.get("/api").json()["jobs"]
    assert [status["job_id"] for status in listed] == jobs[::-1]
    assert before == [operator.status(job) for job in jobs]
    assert operator.rows(jobs[2]) == [{"item": 2, "doubled": 4}]
    assert json.loads(operator.http.get("/_cortex/apis").text)[0]["latest_job"]["job_id"] == jobs[2]


def test_deploying_the_same_again_says_that_it_is_up_to_date(operator: OperatorProcess) -> None:
    messages = [
        operator.try_to_deploy(source).json()[0]["message"]
        for source in (DOUBLER, DOUBLER, DOUBLER + "\n        # changed\n", DOUBLER)
    ]

    assert messages == ["created api (BatchAPI)", "api (BatchAPI) is up to date"] + ["updated api (BatchAPI)"] * 2


def test_a_slow_batch_does_not_hold_back_those_leased_with_it(operator: OperatorProcess, tmp_path) -> None:
    """The first worker leases many cheap batches, meets a slow one, and the other worker takes the rest."""
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                if payload == ["slow"]:
                    print("waiting", flush=True)
                    while not os.path.exists({str(gate)!r}):
                        time.sleep(0.01)
                return payload
        """
    )
    items = [*range(3000), "slow", *range(3000)]
    job = operator.submit(items, workers=2)
    assert "waiting" in follow_lines(operator, job)

    with operator.http.stream("GET", f"/api/{job}/logs?follow=true") as response:
        for line in response.iter_lines():
            if "processing batch" in line and operator.status(job)["batch_metrics"]["succeeded"] == len(items) - 1:
                break
            if operator.status(job)["batches_in_queue"] == 0 and operator.status(job)["batches_in_flight"] == 1:
                break
    gate.touch()

    assert operator.wait(job)["status"] == "status_succeeded"
    assert items == operator.rows(job)
