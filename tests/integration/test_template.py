"""Workers are forked from a process that has imported the predictor's module: once for all, where that is safe."""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cortex.domain.frame import FrameReader
from cortex.worker import start
from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from processes import kill, open_files_of

# Each import of the module leaves a line, and each worker tells who it is.
COUNTED = """
    {more}
    import os
    with open({imports!r}, "a") as file:
        file.write("imported\\n")
    print("printed by the import")

    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return {value}
"""


@pytest.fixture
def warm(start_operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that keeps processes warm for longer than any test."""
    return start_operator("--keep-warm", "600")


# A thread that is not missing in a fork: what has started it starts it again.
MINDS_FORKS = """
    import ctypes, threading
    named = threading.Event()
    def run():
        ctypes.CDLL(None).prctl(15, b"jemalloc_bg_thd")
        named.set()
        threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    named.wait()
"""


@pytest.mark.parametrize(
    "more", ["", "import numpy as np; np.ones((300, 300)) @ np.ones((300, 300))", MINDS_FORKS.strip()]
)
def test_one_import_serves_all_workers_of_all_jobs(warm: OperatorProcess, tmp_path: Path, more: str) -> None:
    imports = tmp_path / "imports"
    warm.deploy(COUNTED.format(imports=str(imports), more=more, value="os.getpid()"))

    jobs = [warm.submit([1, 2, 3], workers=2) for _ in range(2)]
    statuses = [warm.wait(job)["status"] for job in jobs]

    assert statuses == ["status_succeeded"] * 2
    assert imports.read_text() == "imported\n"
    assert {*warm.rows(jobs[0])}.isdisjoint(warm.rows(jobs[1]))  # a process for each job
    assert [warm.log(job).count("printed by the import") for job in jobs] in ([1, 0], [0, 1])


def test_the_template_is_kept_warm_with_as_many_blanks_as_workers_were_in_use(
    warm: OperatorProcess, tmp_path: Path
) -> None:
    warm.deploy(COUNTED.format(imports=str(tmp_path / "imports"), more="", value="1"))
    job = warm.submit([1, 2], workers=2)

    warm.wait(job)

    warm.wait_until_at_rest(blanks=2)


@pytest.mark.parametrize(
    "more",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
        "import concurrent.futures as f; pool = f.ThreadPoolExecutor(); pool.submit(int).result()",
    ],
)
def test_a_module_that_starts_threads_is_imported_by_each_worker(
    operator: OperatorProcess, tmp_path: Path, more: str
) -> None:
    imports = tmp_path / "imports"
    operator.deploy(COUNTED.format(imports=str(imports), more=more, value="[item for item in payload]"))

    job = operator.submit([1, 2])

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1, 2] == operator.rows(job)
    assert imports.read_text() == "imported\n" * 2  # the template's, which nobody was forked from, and the worker's


def test_a_killed_template_is_no_loss(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(COUNTED.format(imports=str(tmp_path / "imports"), more="", value="payload"))
    gate = operator.submit(list(range(20_000)), workers=1)
    with operator.http.stream("GET", f"/api/{gate}/results?follow=true") as response:
        next(response.iter_lines())

        kill(*operator.worker_processes("cortex-template"))
        second = operator.submit([1])

    assert operator.wait(gate)["status"] == "status_succeeded"
    assert operator.wait(second)["status"] == "status_succeeded"


def test_each_worker_has_random_numbers_of_its_own(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(
        """
        import os, random
        import numpy as np
        class PythonPredictor:
            def __init__(self, config):
                self.drawn = [random.random(), np.random.random()]

            def predict(self, payload):
                return [os.getpid(), *self.drawn]
        """
    )
    drawn = [operator.rows(job) for job in (operator.submit([1]) for _ in range(3)) if operator.wait(job)]

    assert len({python for ((_, python, _),) in drawn}) == 3
    assert len({numpy for ((_, _, numpy),) in drawn}) == 3


def test_stopping_a_job_whose_import_hangs_ends_everything(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(
        """
        import time
        time.sleep(600)
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                pass
        """
    )
    job = operator.submit([1], workers=2)

    operator.http.delete(f"/api/{job}")

    assert operator.status(job)["status"] == "status_stopped"
    assert psutil.wait_procs(operator.worker_processes(), timeout=TIMEOUT_SECONDS)[1] == []


@pytest.mark.parametrize(
    "more", ["", "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"]
)
def test_what_the_import_has_started_ends_with_the_template(
    operator: OperatorProcess, tmp_path: Path, more: str
) -> None:
    started = tmp_path / "started"
    source = COUNTED.format(imports=str(tmp_path / "imports"), more=more, value="1")
    operator.deploy(
        f"{source}    import subprocess\n"
        f"    with open({str(started)!r}, 'a') as file:\n"
        "        print(subprocess.Popen(['sleep', '600']).pid, file=file)\n"
    )
    operator.wait(operator.submit([1]))
    operator.stop()

    pids = [int(line) for line in started.read_text().splitlines()]
    assert pids
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout=TIMEOUT_SECONDS)


def test_a_worker_holds_nothing_that_is_anothers(operator: OperatorProcess, tmp_path: Path) -> None:
    """A worker that held the pipe of another would keep the job from ending until both are gone."""
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                print("in predict", flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
                return payload
        """
    )
    job = operator.submit([1, 2], workers=2)
    entered = 0
    for line in follow_lines(operator, job):
        entered += line == "in predict"
        if entered == 2:
            break
    workers = operator.worker_processes("cortex-worker")
    pipes = [{file for file in open_files_of(worker.pid) if file.startswith("pipe:")} for worker in workers]
    gate.touch()

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [len(held) for held in pipes] == [1, 1]
    assert pipes[0].isdisjoint(pipes[1])


def test_a_supervisor_that_has_outlived_an_earlier_version_is_told_that_nobody_can_be_forked(tmp_path: Path) -> None:
    (tmp_path / "predictor.py").write_text(
        "class PythonPredictor:\n    def __init__(self, config): ...\n    def predict(self, payload): ...\n"
    )
    setup = {"project": str(tmp_path), "predictor_path": "predictor.py", "python_path": None, "memory_group": None}
    ours, theirs = socket.socketpair()

    with ours, theirs:
        ours.settimeout(60)
        command = [sys.executable, "-P", start.__file__, "template", json.dumps(setup)]
        with subprocess.Popen(command, stdin=theirs) as template:
            told = FrameReader().feed(ours.recv(1 << 16))
            ours.shutdown(socket.SHUT_RDWR)

    assert ([{"type": "ready", "can_fork": False}], 0) == (told, template.returncode)
