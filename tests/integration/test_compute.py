"""`compute` bounds and contains workers: real jobs on this machine, which they share.

Workers meet through files: each says that it runs by a file of its own, and goes on when a gate is there.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from operator_process import OperatorProcess, follow_lines
from samples import HOG

CORES = os.cpu_count() or 1

WORKING = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""

# Each batch says that it runs, and ends when the gate is there.
GATED = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]
            with open(f"{self.folder}/worker-{os.getpid()}", "w") as file:
                file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
            print("constructed", flush=True)

        def predict(self, payload):
            print("in predict", flush=True)
            while not os.path.exists(f"{self.folder}/gate"):
                time.sleep(0.01)
            return payload
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where workers meet."""
    folder = tmp_path / "meeting"
    folder.mkdir()
    return folder


@pytest.fixture(params=["groups", "watchdog"])
def limiting(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    start_operator: Callable[..., OperatorProcess],
) -> OperatorProcess:
    """An operator that limits memory in each of the two ways; what the kernel does not offer here is skipped."""
    if request.param == "groups" and not own_memory_group().is_dir():
        pytest.skip("no memory groups of version 1 here")
    monkeypatch.setenv("CORTEX_MEMORY_LIMITS", request.param)
    return start_operator("--keep-warm", "0")


def own_memory_group() -> Path:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next((line.split(":", 2)[2] for line in lines if line.split(":")[1] == "memory"), "/none")
    return Path("/sys/fs/cgroup/memory") / own.lstrip("/")


def wait_for_lines(operator: OperatorProcess, job: str, line: str, count: int, **api: str) -> None:
    """Wait until a job's log has so many of these lines."""
    found = 0
    for each in follow_lines(operator, job, **api):
        found += each == line
        if found == count:
            return
    raise AssertionError(f"the job ended before its log had {count} times `{line}`")


def worker_pids(operator: OperatorProcess) -> set[int]:
    return {process.pid for process in operator.worker_processes("cortex-worker")}


def counts(status: dict[str, Any], *names: str) -> tuple[int, ...]:
    return tuple(status["worker_counts"][name] for name in names)


def test_two_jobs_share_the_machine_and_both_finish(operator: OperatorProcess, folder: Path) -> None:
    for name in ("first", "second"):
        operator.deploy(GATED, name=name, compute={"cpu": 1}, config={"folder": str(folder)})
    first = operator.submit(list(range(CORES)), api="first", workers=CORES)
    wait_for_lines(operator, first, "in predict", CORES, api="first")

    second = operator.submit([1, 2], api="second", workers=2)
    assert "spinning up workers..." in follow_lines(operator, second, api="second")
    waiting = operator.status(second, api="second")
    at_work = operator.status(first, api="first")
    running = len(worker_pids(operator))
    (folder / "gate").touch()

    assert running == CORES
    assert (2, 0) == counts(waiting, "pending", "initializing")
    assert waiting["status_reason"] == (
        f"2 of 2 workers wait for compute: each needs 1 cpu, and {CORES} of the machine's {CORES} are taken"
    )
    assert (CORES, 0) == counts(at_work, "running", "pending")
    assert "status_reason" not in at_work
    assert operator.wait(first, api="first")["status"] == "status_succeeded"
    ended = operator.wait(second, api="second")
    assert ended["status"] == "status_succeeded"
    assert "status_reason" not in ended


def test_a_job_ends_without_the_workers_that_never_got_a_place(operator: OperatorProcess, folder: Path) -> None:
    operator.deploy(GATED, compute={"cpu": CORES}, config={"folder": str(folder)})
    job = operator.submit([1, 2], workers=1000)
    wait_for_lines(operator, job, "in predict", 1)

    status = operator.status(job)
    (folder / "gate").touch()

    assert (999, 1, 0, 0) == counts(status, "pending", "running", "succeeded", "failed")
    assert "999 of 1000 workers wait for compute: each needs" in status["status_reason"]
    assert operator.wait(job)["status"] == "status_succeeded"
    assert len(list(folder.glob("worker-*"))) == 1


def test_a_job_that_waits_for_a_place_is_stopped_at_once(operator: OperatorProcess, folder: Path) -> None:
    operator.deploy(GATED, compute={"cpu": CORES}, config={"folder": str(folder)})
    first = operator.submit([1])
    wait_for_lines(operator, first, "in predict", 1)
    second = operator.submit([1])

    operator.http.delete(f"/api/{second}")
    stopped = operator.status(second)["status"]
    (folder / "gate").touch()

    assert stopped == "status_stopped"
    assert operator.wait(first)["status"] == "status_succeeded"


def test_the_next_operator_counts_the_workers_that_it_finds(operator: OperatorProcess, folder: Path) -> None:
    operator.deploy(GATED, compute={"cpu": 1}, config={"folder": str(folder)})
    first = operator.submit(list(range(CORES)), workers=CORES)
    wait_for_lines(operator, first, "in predict", CORES)
    second = operator.submit([1, 2], workers=2)
    placed = worker_pids(operator)

    operator.kill()
    operator.start()
    third = operator.submit([1])
    assert "spinning up workers..." in follow_lines(operator, third)
    while counts(operator.status(first), "running", "pending") != (CORES, 0):
        assert worker_pids(operator) <= placed  # nobody is let in before they are found
    waiting = [counts(operator.status(job), "pending", "initializing", "running") for job in (second, third)]
    running = worker_pids(operator)
    (folder / "gate").touch()

    assert placed == running
    assert waiting == [(2, 0, 0), (1, 0, 0)]
    for job in (first, second, third):
        assert operator.wait(job)["status"] == "status_succeeded"


def test_a_worker_over_its_limit_is_ended_alone(limiting: OperatorProcess) -> None:
    limiting.deploy(HOG, compute={"cpu": None, "mem": "100Mi"})
    job = limiting.submit(list(range(20)), workers=2)

    status = limiting.wait(job)

    assert status["status"] == "status_worker_oom"
    assert (19, 1) == (status["batch_metrics"]["succeeded"], status["batch_metrics"]["failed"])
    assert [item for item in range(20) if item != 7] == limiting.rows(job)
    reason = "its worker ran out of memory: it is limited to 100Mi (compute.mem); give the workers more `compute.mem`"
    assert reason in status["status_reason"]
    log = limiting.log(job)
    assert log.count("ran out of memory: it is limited to 100Mi (compute.mem), while it processed batch") == 3
    assert log.count("given up after 3 deaths") == 1
    failure = limiting.http.get(f"/api/{job}/failures").json()
    assert ("OutOfMemory", 7, 3) == (failure["type"], failure["first_item"], failure["attempts"])


def test_what_a_worker_has_started_counts_as_its_own(limiting: OperatorProcess) -> None:
    source = HOG.replace("    class", "    import subprocess, sys\n    class", 1).replace(
        'hoard = [bytearray(b"x" * 2**20) for _ in range(600)]',
        """subprocess.run([sys.executable, "-c", "import time; b = b'x' * 2**20 * 600; time.sleep(600)"])
                import time; time.sleep(600)""",
    )
    limiting.deploy(source, compute={"cpu": None, "mem": "100Mi"})
    job = limiting.submit([7, 8])

    status = limiting.wait(job)

    assert status["status"] == "status_worker_oom"
    assert [8] == limiting.rows(job)


def test_no_worker_that_fits_in_its_memory_is_ended(limiting: OperatorProcess) -> None:
    limiting.deploy(HOG.replace("range(600)", "range(40)"), compute={"cpu": None, "mem": "200Mi"})
    job = limiting.submit(list(range(10)), workers=2)

    assert limiting.wait(job)["status"] == "status_succeeded"


def test_a_killed_worker_with_a_limit_is_not_called_out_of_memory(limiting: OperatorProcess, folder: Path) -> None:
    limiting.deploy(GATED, compute={"cpu": None, "mem": "200Mi"}, config={"folder": str(folder)})
    job = limiting.submit([1])
    wait_for_lines(limiting, job, "in predict", 1)

    (worker,) = limiting.worker_processes("cortex-worker")
    worker.kill()
    (folder / "gate").touch()

    assert limiting.wait(job)["status"] == "status_succeeded"
    assert f"worker pid-{worker.pid} was killed by signal 9 (SIGKILL)" in limiting.log(job)


def test_workers_that_run_out_of_memory_before_they_are_ready_end_the_job(limiting: OperatorProcess) -> None:
    limiting.deploy(
        WORKING.replace("pass", 'self.hoard = [bytearray(b"x" * 2**20) for _ in range(600)]'),
        compute={"cpu": None, "mem": "100Mi"},
    )
    job = limiting.submit([1])

    status = limiting.wait(job)

    assert status["status"] == "status_worker_oom"
    assert "ran out of memory: it is limited to 100Mi (compute.mem)" in status["status_reason"]


def test_what_the_import_takes_is_limited_too(limiting: OperatorProcess) -> None:
    hoard = '    hoard = [bytearray(b"x" * 2**20) for _ in range(600)]\n'
    limiting.deploy(hoard + WORKING, compute={"cpu": None, "mem": "100Mi"})
    job = limiting.submit([1])

    status = limiting.wait(job)

    assert status["status"] == "status_worker_oom"
    assert "ran out of memory: it is limited to 100Mi (compute.mem)" in status["status_reason"]


def test_a_memory_error_is_an_ordinary_failure(operator: OperatorProcess) -> None:
    operator.deploy(WORKING.replace("return payload", "raise MemoryError('no more')"), compute={"mem": "200Mi"})
    job = operator.submit([1])

    status = operator.wait(job)

    assert status["status"] == "status_completed_with_failures"
    assert "MemoryError: no more" in status["status_reason"]


def test_no_group_is_left_when_all_workers_are_gone(operator: OperatorProcess, folder: Path) -> None:
    parent = own_memory_group()
    if not parent.is_dir():
        pytest.skip("no memory groups of version 1 here")
    operator.deploy(GATED, compute={"cpu": None, "mem": "200Mi"}, config={"folder": str(folder)})
    job = operator.submit([1])
    wait_for_lines(operator, job, "in predict", 1)
    (supervisor,) = operator.worker_processes("cortex-superv")

    while_running = list(parent.glob(f"cortex-{supervisor.pid}-*"))
    supervisor.kill()  # it can clear up nothing
    supervisor.wait()  # else the worker might end before the kernel kills it, too
    (folder / "gate").touch()
    ended = operator.wait(job)
    operator.stop()

    assert len(while_running) == 2  # of the worker, and of the template
    assert ended["status"] == "status_succeeded"
    assert [group for group in parent.glob("cortex-*") if group in while_running or f"-{job}-" in group.name] == []


def test_no_group_is_left_of_a_supervisor_that_was_killed_when_there_was_nothing_left_to_do(
    start_operator: Callable[..., OperatorProcess],
) -> None:
    parent = own_memory_group()
    if not parent.is_dir():
        pytest.skip("no memory groups of version 1 here")
    operator = start_operator("--keep-warm", "60")
    operator.deploy(WORKING, compute={"cpu": None, "mem": "200Mi"})
    operator.wait(operator.submit([1]))
    (supervisor,) = operator.worker_processes("cortex-superv")

    while_warm = list(parent.glob(f"cortex-{supervisor.pid}-*"))
    supervisor.kill()  # no other is started
    operator.stop()

    assert while_warm != []
    assert list(parent.glob(f"cortex-{supervisor.pid}-*")) == []


def test_workers_that_run_at_the_same_time_have_gpus_of_their_own(
    start_operator: Callable[..., OperatorProcess], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,1,GPU-c,3")
    operator = start_operator("--keep-warm", "0")
    operator.deploy(GATED, name="two", compute={"cpu": None, "gpu": 2}, config={"folder": str(folder)})
    operator.deploy(GATED, name="none", compute={"cpu": None}, config={"folder": str(folder)})

    first = operator.submit([1, 2], api="two", workers=2)
    wait_for_lines(operator, first, "in predict", 2, api="two")
    third = operator.submit([3], api="two")
    without = operator.submit([1], api="none")
    wait_for_lines(operator, without, "in predict", 1, api="none")
    given = [file.read_text() for file in folder.glob("worker-*")]
    waiting = operator.status(third, api="two")
    (folder / "gate").touch()

    assert ["", "GPU-a,1", "GPU-c,3"] == sorted(given)
    assert "each needs 2 gpu, and 4 of the machine's 4 are taken" in waiting["status_reason"]
    for job, api in ((first, "two"), (third, "two"), (without, "none")):
        assert operator.wait(job, api=api)["status"] == "status_succeeded"


def test_gpus_stay_with_the_workers_that_the_next_operator_finds(
    start_operator: Callable[..., OperatorProcess], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    operator = start_operator("--keep-warm", "0")
    operator.deploy(GATED, compute={"cpu": None, "gpu": 1}, config={"folder": str(folder)})
    first = operator.submit([1])
    wait_for_lines(operator, first, "in predict", 1)

    operator.kill()
    operator.start()
    second = operator.submit([2])
    wait_for_lines(operator, second, "in predict", 1)
    given = sorted(file.read_text() for file in folder.glob("worker-*"))
    (folder / "gate").touch()

    assert ["0", "1"] == given
    assert [operator.wait(job)["status"] for job in (first, second)] == ["status_succeeded"] * 2
