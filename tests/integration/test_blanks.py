"""Workers are made of processes that were forked before anybody needed them; nobody misses one that dies too early."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from operator_process import TIMEOUT_SECONDS, OperatorProcess
from processes import open_files_of
from samples import HOG
from waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to see them in")

WHO_AND_WHERE = """
    import os

    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return [os.getpid(), os.environ["CORTEX_JOB_ID"]]
"""


@pytest.fixture
def warm(start_operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that keeps processes warm for longer than any test, and that knows no patience."""
    return start_operator("--keep-warm", "600", "--heartbeat", "1")


def with_blanks(operator: OperatorProcess, count: int, predictor: str = WHO_AND_WHERE) -> list[psutil.Process]:
    """Deploy a predictor and run a job of it, so that there are blanks for the next one."""
    operator.deploy(predictor)
    assert operator.wait(operator.submit([1, 2], workers=count))["status"] == "status_succeeded"
    operator.wait_until_at_rest(blanks=count)
    return operator.worker_processes("cortex-blank")


def assert_runs_without_a_death(operator: OperatorProcess) -> list[int]:
    """Run a job; give the processes that its batches ran in."""
    job = operator.submit([1, 2, 3])

    status = operator.wait(job)

    assert (status["status"], "pid-" in status.get("status_reason", "")) == ("status_succeeded", False)
    pids, jobs = zip(*operator.rows(job), strict=True)
    assert (job,) * 3 == jobs
    assert "killed" not in operator.log(job)
    return list(pids)


def test_a_blank_becomes_the_worker_of_the_next_job_and_finds_what_is_that_jobs(warm: OperatorProcess) -> None:
    (blank,) = with_blanks(warm, 1)

    assert [blank.pid] * 3 == assert_runs_without_a_death(warm)


def test_a_blank_holds_only_its_own_socket_and_its_own_pipe(warm: OperatorProcess) -> None:
    blanks = with_blanks(warm, 2)

    held = [open_files_of(blank.pid) for blank in blanks]

    kinds = [sorted({link.partition(":")[0] for link in links if ":" in link}) for links in held]
    assert [["pipe", "socket"]] * 2 == kinds
    first, second = ({link for link in links if ":" in link} for links in held)
    assert (2, 2) == (len(first), len(second))
    assert first.isdisjoint(second)


def test_a_killed_blank_is_nobodys_death(warm: OperatorProcess) -> None:
    (blank,) = with_blanks(warm, 1)

    blank.kill()

    assert blank.pid not in assert_runs_without_a_death(warm)


# The first process that reads an order dies of it: whatever a Worker does begins with its variables.
DIES_OF_ITS_ORDER = """
    import os

    class Deadly(type(os.environ)):
        def __setitem__(self, name, value):
            try:
                open({died!r}, "x").close()
            except FileExistsError:
                super().__setitem__(name, value)
            else:
                os.kill(os.getpid(), 9)

    os.environ.__class__ = Deadly
"""


def test_a_blank_that_dies_before_it_has_printed_anything_is_nobodys_death(
    warm: OperatorProcess, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    warm.deploy(DIES_OF_ITS_ORDER.format(died=str(died)) + WHO_AND_WHERE)

    assert_runs_without_a_death(warm)
    assert died.exists()


def test_an_order_that_a_stopped_blank_has_not_taken_goes_to_another_process(warm: OperatorProcess) -> None:
    (blank,) = with_blanks(warm, 1)

    blank.suspend()

    assert blank.pid not in assert_runs_without_a_death(warm)
    assert not blank.is_running()


def test_blanks_end_with_their_template_and_workers_are_fresh_processes_then(warm: OperatorProcess) -> None:
    blanks = with_blanks(warm, 2)
    (template,) = warm.worker_processes("cortex-template")

    template.kill()

    assert ([], len(blanks)) == (psutil.wait_procs(blanks, timeout=TIMEOUT_SECONDS)[1], 2)
    assert_runs_without_a_death(warm)


def test_a_killed_template_is_replaced(warm: OperatorProcess) -> None:
    blanks = with_blanks(warm, 2)
    (template,) = warm.worker_processes("cortex-template")
    template.kill()
    psutil.wait_procs([template, *blanks], timeout=TIMEOUT_SECONDS)

    assert_runs_without_a_death(warm)

    warm.wait_until_at_rest(blanks=1)


def test_blanks_end_with_their_supervisor(warm: OperatorProcess) -> None:
    blanks = with_blanks(warm, 2)
    (supervisor,) = warm.worker_processes("cortex-superv")

    supervisor.kill()

    assert ([], len(blanks)) == (psutil.wait_procs(blanks, timeout=TIMEOUT_SECONDS)[1], 2)
    assert_runs_without_a_death(warm)


def test_blanks_end_with_a_supervisor_that_cannot_end_them_itself(warm: OperatorProcess) -> None:
    blanks = with_blanks(warm, 2)
    (supervisor,) = warm.worker_processes("cortex-superv")
    for blank in blanks:
        blank.suspend()  # so they cannot hear that it hangs up

    supervisor.kill()

    assert [] == psutil.wait_procs(blanks, timeout=TIMEOUT_SECONDS)[1]


def test_a_killed_operator_leaves_blanks_to_the_next_one(warm: OperatorProcess) -> None:
    (blank,) = with_blanks(warm, 1)

    warm.kill()
    warm.start()

    assert [blank.pid] * 3 == assert_runs_without_a_death(warm)


def test_an_order_that_is_too_long_for_a_blank_goes_to_a_fresh_process(warm: OperatorProcess) -> None:
    variables = {f"LONG_{number}": "x" * 100_000 for number in range(3)}  # more than a socket holds
    warm.deploy(WHO_AND_WHERE.replace("os.getpid()", "len(os.environ['LONG_2'])"), env=variables)

    job = warm.submit([1])

    assert warm.wait(job)["status"] == "status_succeeded"
    assert [[100_000, job]] == warm.rows(job)


@pytest.mark.parametrize("limiting", ["groups", "watchdog"])
def test_a_worker_that_was_a_blank_has_the_memory_limit_of_its_own(
    start_operator: Callable[..., OperatorProcess], monkeypatch: pytest.MonkeyPatch, limiting: str
) -> None:
    monkeypatch.setenv("CORTEX_MEMORY_LIMITS", limiting)
    operator = start_operator("--keep-warm", "600")
    operator.deploy(HOG, compute={"cpu": None, "mem": "100Mi"})
    operator.wait(operator.submit([1, 2], workers=2))
    wait_until(lambda: len(operator.worker_processes("cortex-blank")) == 2, "the blanks are ready")

    job = operator.submit([7, 8], workers=2)

    status = operator.wait(job)
    assert status["status"] == "status_worker_oom"
    assert [8] == operator.rows(job)
    assert "its worker ran out of memory: it is limited to 100Mi (compute.mem)" in status["status_reason"]


def fail_to_enqueue(operator: OperatorProcess, folder: Path) -> Path:
    """Run a job over a file with a bad line; give the file that an import of its predictor's module leaves behind."""
    imported, lines = folder / "imported", folder / "lines"
    lines.write_text("[1]\nno JSON\n")
    operator.deploy(f"    open({str(imported)!r}, 'w').close()\n{WHO_AND_WHERE}")
    request = {"workers": 2, "delimited_files": {"s3_paths": [str(lines)]}}
    job = operator.http.post("/api", json=request).json()["job_id"]
    assert operator.wait(job)["status"] == "status_enqueue_failed"
    return imported


def test_the_predictors_module_is_imported_and_blanks_are_forked_while_a_job_is_being_enqueued(
    warm: OperatorProcess, tmp_path: Path
) -> None:
    imported = fail_to_enqueue(warm, tmp_path)

    wait_until(lambda: len(warm.worker_processes("cortex-blank")) == 2, "a blank is ready for each worker")
    assert imported.exists()


def test_nothing_is_made_ready_where_nothing_is_kept_warm(operator: OperatorProcess, tmp_path: Path) -> None:
    imported = fail_to_enqueue(operator, tmp_path)

    assert ([], False) == (operator.worker_processes(), imported.exists())
