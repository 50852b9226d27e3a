"""Section 4 of the contract: the life of a job."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from contract_world import ECHO, AtOperator, Gate, files_of, submit

from operator_process import TIMEOUT_SECONDS, OperatorProcess, follow_lines
from s3_server import S3

OBEDIENT = """
    import os

    class PythonPredictor:
        def __init__(self, config, job_spec):
            self.config = config
            print("total in init:", job_spec["total_batch_count"], flush=True)
            if config.get("init"):
                raise ValueError("as asked")

        def predict(self, payload):
            if payload == ["fail"]:
                raise ValueError("as asked")
            if payload == ["die"] or (payload == ["die once"] and self.is_first()):
                os._exit(3)
            if payload == ["wait"]:
                print("waiting", os.getpid(), flush=True)
                with open(self.config["gate"]) as gate:
                    gate.read()
            return payload

        def is_first(self):
            try:
                os.mkdir(self.config["mark"])
            except FileExistsError:
                return False
            return True

        def on_job_complete(self):
            print("the hook runs in", os.getpid(), flush=True)
            if self.config.get("hook") == "fail":
                raise RuntimeError("the hook fails")
            if self.config.get("hook") == "fail once" and self.is_first():
                raise RuntimeError("the hook fails once")
            if self.config.get("hook") == "die":
                os._exit(4)
"""


@pytest.fixture
def obedient(operator: OperatorProcess) -> OperatorProcess:
    """The operator with a predictor that does as its items say, as the API `obedient`."""
    operator.deploy(OBEDIENT, name="obedient")
    return operator


@pytest.fixture
def small(start_operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that keeps nothing warm, and short logs."""
    return start_operator("--keep-warm", "0", "--log-limit", "20KB")


def run(operator: OperatorProcess, *items: object, workers: int = 1, **config: object) -> tuple[str, str, str]:
    """Run a job; give its id, its status and its log."""
    job = operator.submit(list(items), api="obedient", workers=workers, config=config)
    return job, str(operator.wait(job, api="obedient")["status"]), operator.log(job, api="obedient")


def wait_for_line(operator: OperatorProcess, job: str, line: str) -> None:
    assert any(line in each for each in follow_lines(operator, job, api="obedient"))


def test_a_job_goes_from_enqueuing_to_running_to_its_end(obedient: OperatorProcess, s3: S3, gate: Gate) -> None:
    """submitted -> `enqueuing` -> `running` -> …"""
    s3.put("life/a.json", body=b'"wait"\n')
    seen = []
    s3.faults.before(lambda: see(), matching="life/a.json")
    job = ""

    def see() -> None:
        seen.extend(each["status"] for each in obedient.http.get("/obedient").json()["jobs"][:1])

    request = {**files_of("delimited_files", s3.url("life/")), "config": {"gate": str(gate.path)}}
    job = submit(obedient, request, api="obedient")
    wait_for_line(obedient, job, "waiting")
    seen.append(obedient.status(job, api="obedient")["status"])
    gate.open()
    seen.append(obedient.wait(job, api="obedient")["status"])

    assert ["status_enqueuing", "status_running", "status_succeeded"] == seen


def test_workers_get_batches_only_when_all_are_enqueued(obedient: OperatorProcess, s3: S3) -> None:
    """Workers get the batches only when all are enqueued …"""
    s3.put("total/a.json", "total/b.json", body=b"1\n2\n")

    job = submit(obedient, files_of("delimited_files", s3.url("total/")), api="obedient")
    obedient.wait(job, api="obedient")

    lines = obedient.log(job, api="obedient").splitlines()
    assert "total in init: 4" in [line.rpartition("INFO:")[2] for line in lines]
    first_batch = next(at for at, line in enumerate(lines) if "processing batch" in line)
    assert lines.index("completed enqueuing a total of 4 batches") < first_batch


def test_a_batch_whose_predict_raises_fails_alone(obedient: OperatorProcess) -> None:
    """`predict` raises -> that batch has failed …"""
    job, status, _ = run(obedient, 1, "fail", 3)

    assert status == "status_completed_with_failures"
    assert [1, 3] == obedient.rows(job, api="obedient")


def test_a_batch_whose_predict_raises_is_tried_as_often_as_the_job_asked_for(obedient: OperatorProcess) -> None:
    """`predict` raises -> that batch has failed (unless the job asked for retries) …"""
    job = obedient.submit([1, "fail", 3], api="obedient", retries={"attempts": 3, "backoff": 0})

    assert obedient.wait(job, api="obedient")["status"] == "status_completed_with_failures"
    assert obedient.log(job, api="obedient").count("failed to process batch") == 3


def test_a_worker_that_dies_is_replaced_and_its_batch_runs_again(obedient: OperatorProcess, tmp_path: Path) -> None:
    """A worker dies -> its batch goes back to the queue at once …"""
    job, status, log = run(obedient, 1, "die once", 3, mark=str(tmp_path / "mark"))

    assert status == "status_succeeded"
    assert [1, "die once", 3] == obedient.rows(job, api="obedient")
    assert log.count("exited with code 3") == 1


def test_a_batch_that_kills_three_workers_fails_alone(obedient: OperatorProcess) -> None:
    """A worker dies -> its batch goes back to the queue at once …: 3 times."""
    job, status, log = run(obedient, 1, "die", "fail", 3)

    assert status == "status_worker_error"
    assert [1, 3] == obedient.rows(job, api="obedient")
    assert "exited with code 3" in obedient.status(job, api="obedient")["status_reason"]
    assert log.count("given up after 3 deaths") == 1
    assert obedient.status(job, api="obedient")["batch_metrics"]["failed"] == 2


def test_a_batch_that_is_ended_by_out_of_memory_decides_the_status(operator: OperatorProcess) -> None:
    """A worker dies -> its batch goes back to the queue at once …: any ended by out of memory -> worker_oom."""
    hoard = "len([bytearray(b'x' * 2**20) for _ in range(600)])"
    operator.deploy(
        ECHO.replace("return payload", f"return payload if payload != ['hog'] else {hoard}"),
        name="hog",
        compute={"cpu": None, "mem": "100Mi"},
    )
    job = operator.submit([1, "hog", 3], api="hog")

    status = operator.wait(job, api="hog")

    assert status["status"] == "status_worker_oom"
    assert "100Mi" in status["status_reason"]
    assert [1, 3] == operator.rows(job, api="hog")


def test_a_worker_that_is_killed_from_outside_is_replaced(obedient: OperatorProcess, gate: Gate) -> None:
    """A worker dies -> its batch goes back to the queue at once …: kills from outside included."""
    job = obedient.submit(["wait"], api="obedient", config={"gate": str(gate.path)})
    wait_for_line(obedient, job, "waiting")
    pid = obedient.log(job, api="obedient").partition("waiting ")[2].split()[0]

    worker = psutil.Process(int(pid))
    worker.kill()
    assert (
        psutil.wait_procs([worker], timeout=TIMEOUT_SECONDS)[1] == []
    )  # else it would be the one that finds the gate open
    gate.open()

    assert obedient.wait(job, api="obedient")["status"] == "status_succeeded"
    assert "SIGKILL" in obedient.log(job, api="obedient")


@pytest.mark.parametrize("compute", [{"cpu": 6400}, {"mem": "900Ti"}, {"gpu": 1000}], ids=str)
def test_a_worker_that_can_never_fit_is_refused(operator: OperatorProcess, compute: dict[str, object]) -> None:
    """A worker that can never fit the engine …"""
    answer = operator.try_to_deploy(ECHO, name="large", compute=compute)

    assert answer.status_code == 400
    assert f"compute.{next(iter(compute))}" in answer.json()["message"]
    assert (str(os.cpu_count()) if "cpu" in compute else "the machine has") in answer.json()["message"]


def test_an_init_that_raises_ends_the_job(obedient: OperatorProcess) -> None:
    """`__init__` raises in the first workers …"""
    _, status, log = run(obedient, 1, 2, workers=2, init="fail")

    assert status == "status_worker_error"
    assert "Traceback" in log
    assert "ValueError: as asked" in log
    assert 1 <= log.count("total in init") <= 2


def test_the_hook_runs_once_after_every_batch(obedient: OperatorProcess) -> None:
    """`on_job_complete` is started at most once …"""
    _, status, log = run(obedient, *range(50), "fail", workers=2)

    assert status == "status_completed_with_failures"
    assert log.count("the hook runs in") == 1
    lines = log.splitlines()
    hook = next(at for at, line in enumerate(lines) if "the hook runs in" in line)
    assert max(at for at, line in enumerate(lines) if "processing batch" in line) < hook
    assert any("executing on_job_complete" in line for line in lines[:hook])
    assert f"pid-{lines[hook].split()[-1]}:INFO:loading the predictor" in log


@pytest.mark.parametrize(("how", "reason"), [("fail", "RuntimeError: the hook fails"), ("die", "exited with code 4")])
def test_a_hook_that_fails_is_a_worker_error_and_runs_once(obedient: OperatorProcess, how: str, reason: str) -> None:
    """`on_job_complete` is started at most once …: if it raises, or its worker dies inside it."""
    job, status, log = run(obedient, 1, 2, workers=2, hook=how)

    assert status == "status_worker_error"
    assert reason in obedient.status(job, api="obedient")["status_reason"]
    assert log.count("executing on_job_complete") == 1
    assert [1, 2] == obedient.rows(job, api="obedient")


def test_a_hook_that_has_failed_is_run_again_by_a_command(
    obedient: OperatorProcess, at_operator: AtOperator, tmp_path: Path
) -> None:
    """`on_job_complete` is started at most once …: `cortex rerun API JOB --hook` runs it again."""
    job, status, _ = run(obedient, 1, "fail", 2, hook="fail once", mark=str(tmp_path / "mark"))
    assert status == "status_worker_error"

    again = at_operator.out("rerun", "obedient", job, "--hook").strip()

    assert obedient.wait(again, api="obedient")["status"] == "status_completed_with_failures"
    log = obedient.log(again, api="obedient")
    assert [1, 0] == [log.count("the hook runs in"), log.count("processing batch")]
    assert [1, 2] == obedient.rows(again, api="obedient")


def test_the_operators_death_does_not_interrupt_the_hook(
    start_operator: Callable[..., OperatorProcess], gate: Gate
) -> None:
    """`on_job_complete` is started at most once …: the operator's death does not interrupt it."""
    operator = start_operator("--keep-warm", "0")
    hook = "print('in the hook', flush=True); open(PATH).read(); print('out')".replace("PATH", repr(str(gate.path)))
    operator.deploy(f"{ECHO}\n    def on_job_complete(self):\n        {hook}\n")
    job = operator.submit([1])
    assert any("in the hook" in line for line in follow_lines(operator, job))

    operator.kill()
    gate.open()
    operator.start()

    assert operator.wait(job)["status"] == "status_succeeded"
    log = operator.log(job)
    assert [1, 1] == [log.count("in the hook"), log.count("\nout\n")]


def test_a_stopped_job_keeps_what_it_has_and_runs_no_hook(obedient: OperatorProcess, gate: Gate) -> None:
    """Stop: no further batch is handed out …"""
    job = obedient.submit([0, 1, "wait", 3], api="obedient", config={"gate": str(gate.path)})
    wait_for_line(obedient, job, "waiting")

    obedient.http.delete(f"/obedient/{job}")

    status = obedient.status(job, api="obedient")
    assert status["status"] == "status_stopped"
    assert (2, 2) == (status["batch_metrics"]["succeeded"], status["batches_in_queue"])
    assert [0, 1] == obedient.rows(job, api="obedient")
    assert "the hook runs" not in obedient.log(job, api="obedient")


def test_a_deleted_api_is_gone_with_its_jobs(operator: OperatorProcess, gate: Gate) -> None:
    """Deleting the API stops its jobs …"""
    operator.deploy(OBEDIENT, name="leaving")
    ended = operator.submit([1], api="leaving")
    operator.wait(ended, api="leaving")
    running = operator.submit(["wait"], api="leaving", config={"gate": str(gate.path)})
    assert any("waiting" in line for line in follow_lines(operator, running, api="leaving"))

    answer = operator.http.delete("/_cortex/apis/leaving")

    assert (200, {"message": "deleting leaving"}) == (answer.status_code, answer.json())
    assert [404, 404] == [operator.http.get(f"/leaving{path}").status_code for path in ("", f"/{ended}")]
    there = [name for _, folders, files in os.walk(operator.data_dir) for name in [*folders, *files]]
    assert [] == [name for name in there if ended in name or running in name]
    assert operator.http.get("/_cortex/apis/leaving").status_code == 404


def test_no_worker_process_is_left_when_nothing_is_kept_warm(small: OperatorProcess) -> None:
    """No job running -> no worker process …: 0 = at once."""
    small.deploy(ECHO)

    assert small.wait(small.submit([1]))["status"] == "status_succeeded"

    assert psutil.wait_procs(small.worker_processes(), timeout=10)[1] == []


def test_workers_are_kept_for_a_minute_unless_it_is_said(at_operator: AtOperator) -> None:
    """No job running -> no worker process …: default 60 s."""
    text = " ".join(at_operator.out("operator", "--help").split())

    assert "[default: 60.0;" in text.partition("--keep-warm SECONDS")[2].partition(" --")[0]
    assert "[default: 256MB]" in text.partition("--log-limit SIZE")[2].partition(" --")[0]


def test_kept_processes_have_imported_the_module_and_construct_for_each_job(operator: OperatorProcess) -> None:
    """No job running -> no worker process …: kept processes."""
    source = f"import os\nIMPORTED = os.getpid()\n{ECHO}".replace("pass", "self.made = config['n']")
    operator.deploy(source.replace("return payload", "return [IMPORTED, self.made]"), name="kept")
    rows = []
    for n in (1, 2):
        job = operator.submit([1, 1], batch_size=2, api="kept", config={"n": n})
        operator.wait(job, api="kept")
        rows.append(operator.rows(job, api="kept"))

    (first, one), (second, two) = rows
    assert first == second  # one process has imported it for both
    assert [1, 2] == [one, two]


def test_the_log_of_a_job_is_bounded_and_says_what_is_left_out(small: OperatorProcess) -> None:
    """A job's log is bounded …"""
    small.deploy(f"{ECHO}\n    def on_job_complete(self):\n        print('the hook ran')\n")
    job = small.submit(list(range(1000)))

    status = small.wait(job)

    log = small.log(job)
    assert status["status"] == "status_succeeded"
    assert len(log) < 22_000
    assert 0 < log.count("processing batch") < 1000
    assert "the hook ran" in log  # what users print goes on
    left_out = 1000 - log.count("INFO:processing batch ")
    assert log.count(f" {left_out} 'processing batch' lines and 0 others were dropped") == 1
