"""kill -9 of every process there is, while batches run: nothing is lost, and no finished batch is run again.

The predictor keeps a record of its own: one line in a file of its process for each batch that it finishes, written
as the last thing before predict returns. A batch may be recorded twice only if a kill fell between that line and the
state byte, once per kill at the most.
"""

import random
from collections import Counter
from pathlib import Path

import psutil
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from processes import kill, kill_one
from waiting import wait_until

BATCHES = 3000

RECORDER = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]
            self.record = open(f"{self.folder}/{os.getpid()}", "a", buffering=1)
            print("constructed", flush=True)

        def predict(self, payload):
            time.sleep(0.001)
            self.record.write(f"{payload[0]}\\n")
            return payload

        def on_job_complete(self):
            with open(f"{self.folder}/hook", "a") as file:
                file.write("ran\\n")
"""


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The folder of the predictor's own record."""
    folder = tmp_path / "record"
    folder.mkdir()
    return folder


def runs_by_item(record: Path) -> Counter[int]:
    """Count how often each item was finished, by the predictor's own record."""
    files = [path for path in record.iterdir() if path.name != "hook"]
    return Counter(int(line) for path in files for line in path.read_text().splitlines())


def assert_nothing_was_lost(operator: OperatorProcess, job: str, record: Path, kills: int) -> None:
    status = operator.wait(job)
    runs = runs_by_item(record)

    assert status["status"] == "status_succeeded", operator.log(job)[-3000:]
    assert status["batch_metrics"]["succeeded"] == BATCHES
    assert list(range(BATCHES)) == operator.rows(job)
    assert set(range(BATCHES)) == set(runs)
    assert sum(runs.values()) - BATCHES <= kills
    assert (record / "hook").read_text() == "ran\n"


def wait_until_done(operator: OperatorProcess, job: str, batches: int) -> None:
    """Wait until so many batches are done: results are followed, so this wakes as they come."""
    with operator.http.stream("GET", f"/api/{job}/results?follow=true") as response:
        for number, _ in enumerate(response.iter_lines()):
            if number >= batches:
                return


def worker_pids(operator: OperatorProcess) -> list[int]:
    return [process.pid for process in operator.worker_processes("cortex-worker")]


def supervisor_pids(operator: OperatorProcess) -> list[int]:
    return [process.pid for process in operator.worker_processes("cortex-superv")]


def test_a_killed_worker_costs_nothing(operator: OperatorProcess, record: Path) -> None:
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    wait_until_done(operator, job, 500)

    victim = worker_pids(operator)[0]
    psutil.Process(victim).kill()

    assert_nothing_was_lost(operator, job, record, kills=1)
    assert f"worker pid-{victim} was killed by signal 9 (SIGKILL)" in operator.log(job)


def test_a_killed_operator_finds_its_workers_again(operator: OperatorProcess, record: Path) -> None:
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    wait_until_done(operator, job, 500)
    workers = worker_pids(operator)

    operator.kill()
    operator.start()

    wait_until_done(operator, job, 1500)
    assert workers == worker_pids(operator)  # they kept their model
    assert_nothing_was_lost(operator, job, record, kills=0)


def test_a_killed_supervisor_takes_its_workers_along_and_is_replaced(operator: OperatorProcess, record: Path) -> None:
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    wait_until_done(operator, job, 500)
    workers = [psutil.Process(pid) for pid in worker_pids(operator)]

    psutil.Process(supervisor_pids(operator)[0]).kill()

    assert psutil.wait_procs(workers, timeout=TIMEOUT_SECONDS)[1] == []
    assert_nothing_was_lost(operator, job, record, kills=2)


def test_everything_killed_at_once_goes_on_where_it_was(operator: OperatorProcess, record: Path) -> None:
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    wait_until_done(operator, job, 500)
    processes = operator.worker_processes()

    operator.kill()
    kill(*processes)
    operator.start()

    assert_nothing_was_lost(operator, job, record, kills=2)


def test_a_clean_stop_hands_the_job_to_the_next_operator(operator: OperatorProcess, record: Path) -> None:
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    wait_until_done(operator, job, 500)

    errors = operator.stop()
    left = operator.worker_processes()
    operator.start()

    assert errors == ""
    assert left == []
    assert_nothing_was_lost(operator, job, record, kills=0)


def test_random_kills_while_a_job_runs(operator: OperatorProcess, record: Path) -> None:
    chance = random.Random(20261121)  # noqa: S311 - a seed, so that a failure can be repeated
    operator.deploy(RECORDER, config={"folder": str(record)})
    job = operator.submit(list(range(BATCHES)), workers=2)
    kinds = ["worker", "operator", "supervisor", "worker", "operator", "worker"]
    kills = 0

    for number, kind in enumerate(kinds):
        wait_until_done(operator, job, (number + 1) * BATCHES // 9 + chance.randrange(100))
        if kind == "operator":
            operator.kill()
            operator.start()
        else:
            name = "cortex-worker" if kind == "worker" else "cortex-superv"
            kill_one(lambda name=name: sorted(operator.worker_processes(name), key=lambda _: chance.random()))
            kills += 2 if kind == "supervisor" else 1

    assert_nothing_was_lost(operator, job, record, kills)


def test_the_hook_survives_the_operator_and_runs_once(operator: OperatorProcess, record: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return payload

            def on_job_complete(self):
                print("in the hook", flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
                with open({str(record / "hook")!r}, "a") as file:
                    file.write("ran\\n")
        """
    )
    job = operator.submit([1, 2, 3], workers=2)
    assert "in the hook" in follow_lines(operator, job)

    operator.kill()
    operator.start()
    running = operator.status(job)
    gate.touch()

    assert running["status"] == "status_running"
    assert operator.wait(job)["status"] == "status_succeeded"
    assert (record / "hook").read_text() == "ran\n"


def test_a_long_batch_survives_the_operator(operator: OperatorProcess, record: Path, tmp_path: Path) -> None:
    """The worker cannot answer while it is in predict; its supervisor and its page speak for it."""
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                with open({str(record / "runs")!r}, "a") as file:
                    file.write(f"{{payload[0]}}\\n")
                print("in predict", flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
                return payload
        """
    )
    job = operator.submit([1, 2, 3])
    assert "in predict" in follow_lines(operator, job)

    operator.kill()
    operator.start()
    first, second = (operator.submit([7]) for _ in range(2))  # the operator is there for others meanwhile
    for other in (first, second):
        assert operator.http.delete(f"/api/{other}").status_code == 200
    wait_until(lambda: operator.status(job)["batches_in_flight"] == 1, "the worker is found")
    gate.touch()

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 2, 3] == operator.rows(job)
    assert [line for line in (record / "runs").read_text().split() if line != "7"] == ["1", "2", "3"]


def test_an_acknowledged_job_survives_the_operator_at_once(operator: OperatorProcess) -> None:
    operator.deploy("class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self): return 1\n")

    job = operator.submit([1, 2, 3])
    operator.kill()
    operator.start()

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 1, 1] == operator.rows(job)
