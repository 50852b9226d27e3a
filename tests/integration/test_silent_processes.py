"""SIGSTOP of every process there is, mostly in predict: nobody waits for ever, nothing is lost, no batch is charged."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from cortex.domain.identity import batch_id
from operator_process import OperatorProcess, follow_lines

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to see it in")

ITEMS = list(range(8))

WAITER = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            if payload == [3]:
                print("in predict", flush=True)
                while not os.path.exists(self.config["gate"]):
                    time.sleep(0.01)
            with open(self.config["record"], "a") as file:
                file.write(f"{payload[0]}\\n")
            return payload
"""

WORKS_LONG = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.config = config

        def predict(self, payload):
            if payload == [3]:
                print("in predict", flush=True)
                with open(self.config["gate"]) as gate:
                    gate.read()
                time.sleep(3)
                with open(self.config["gate"], "w") as gate:
                    gate.write("done")
            with open(self.config["record"], "a") as file:
                file.write(f"{payload[0]}\\n")
            return payload
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """An operator that knows no patience, and a job of which a worker waits in predict."""

    operator: OperatorProcess
    job: str
    worker: psutil.Process
    supervisor: psutil.Process
    gate: Path
    record: Path

    def assert_nothing_is_lost(self) -> None:
        """Wait for the end: everything has succeeded once, and no batch was charged."""
        status = self.operator.wait(self.job)
        log = self.operator.log(self.job)

        assert status["status"] == "status_succeeded", log
        assert ITEMS == self.operator.rows(self.job)
        assert ITEMS == sorted(int(line) for line in self.record.read_text().splitlines())
        assert "death" not in log


@pytest.fixture
def begin(start_operator: Callable[..., OperatorProcess], tmp_path: Path) -> Callable[[str], Story]:
    """Begin a job of such a predictor."""

    def begin(predictor: str) -> Story:
        operator = start_operator("--keep-warm", "0", "--heartbeat", "1")
        gate, record = tmp_path / "gate", tmp_path / "record"
        operator.deploy(predictor, config={"gate": str(gate), "record": str(record)})
        if predictor is WORKS_LONG:
            os.mkfifo(gate)
        job = operator.submit(ITEMS)
        assert "in predict" in follow_lines(operator, job)
        (worker,), (supervisor,) = map(operator.worker_processes, ("cortex-worker", "cortex-superv"))
        return Story(operator=operator, job=job, worker=worker, supervisor=supervisor, gate=gate, record=record)

    return begin


DEBUGGER = """
import ctypes, os, sys
pid = int(sys.argv[1])
attached = ctypes.CDLL(None).ptrace(16, pid, 0, 0)  # PTRACE_ATTACH
if attached == 0:
    os.waitpid(pid, 0)
print(attached, flush=True)
sys.stdin.read()
"""


def stop(process: psutil.Process) -> None:
    """Stop a process; when this returns, it does nothing any more."""
    process.suspend()
    while process.status() != psutil.STATUS_STOPPED:
        continue


def test_a_worker_that_is_stopped_is_killed_and_its_batch_runs_elsewhere(begin: Callable[[str], Story]) -> None:
    story = begin(WAITER)

    stop(story.worker)
    story.gate.touch()

    story.assert_nothing_is_lost()
    said = f"worker pid-{story.worker.pid} was stopped for 1 s and killed while it processed batch"
    assert f"{said} {batch_id(story.job, 3)}: it goes back to the queue" in story.operator.log(story.job)
    assert story.worker not in story.operator.worker_processes()


def test_a_worker_that_a_debugger_holds_gives_its_batch_back_though_nobody_can_reap_it(
    begin: Callable[[str], Story],
) -> None:
    story = begin(WAITER)
    command = [sys.executable, "-c", DEBUGGER, str(story.worker.pid)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as debugger:
        assert debugger.stdout is not None
        if debugger.stdout.readline() != "0\n":
            pytest.skip("this kernel lets nobody attach")

        story.gate.touch()

        story.assert_nothing_is_lost()
        said = f"worker pid-{story.worker.pid} was stopped for 1 s and killed while it processed batch"
        assert f"{said} {batch_id(story.job, 3)}: it goes back to the queue" in story.operator.log(story.job)
        assert psutil.STATUS_ZOMBIE == story.worker.status()


def test_a_supervisor_that_is_stopped_is_killed_with_its_workers_and_replaced(begin: Callable[[str], Story]) -> None:
    story = begin(WAITER)

    stop(story.supervisor)
    told = any("was killed with its supervisor" in line for line in follow_lines(story.operator, story.job))
    story.gate.touch()

    assert told
    story.assert_nothing_is_lost()
    said = f"worker pid-{story.worker.pid} was killed with its supervisor while it processed batch"
    assert f"{said} {batch_id(story.job, 3)}: it goes back to the queue" in story.operator.log(story.job)
    assert f"supervisor pid-{story.supervisor.pid} was silent for 1 s and is killed" in story.operator.stop()


def test_a_worker_and_its_supervisor_that_are_stopped_together_are_replaced(begin: Callable[[str], Story]) -> None:
    story = begin(WAITER)

    stop(story.supervisor)
    stop(story.worker)
    story.gate.touch()

    story.assert_nothing_is_lost()
    assert story.worker not in story.operator.worker_processes()


def test_workers_do_not_wait_for_ever_for_a_template_that_is_stopped(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = start_operator("--keep-warm", "0", "--heartbeat", "1")
    importing, gate = tmp_path / "importing", tmp_path / "gate"
    os.mkfifo(importing)
    operator.deploy(
        f"""
        import os, time
        with open({str(importing)!r}, "w") as importing:
            importing.write(str(os.getpid()))
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.01)

        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                return payload
        """
    )
    job = operator.submit(ITEMS)

    template = psutil.Process(int(importing.read_text()))
    stop(template)
    worker = psutil.Process(int(importing.read_text())).name()  # one that imports the module itself
    gate.touch()

    assert ["cortex-worker", "status_succeeded"] == [worker, operator.wait(job)["status"]]
    assert ITEMS == operator.rows(job)


def test_an_operator_that_was_stopped_for_long_kills_nobody(begin: Callable[[str], Story]) -> None:
    story = begin(WORKS_LONG)
    assert story.operator.process is not None

    stop(psutil.Process(story.operator.process.pid))
    story.gate.write_text("go on")
    assert "done" == story.gate.read_text()  # after more than the deadline
    story.operator.process.send_signal(signal.SIGCONT)

    story.assert_nothing_is_lost()
    log = story.operator.log(story.job)
    assert ("killed" in log, "") == (False, story.operator.stop())
