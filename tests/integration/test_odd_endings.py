"""Endings at moments that are rarely hit: each of these once left a job hanging, failed or unfinished."""

from collections.abc import Callable
from pathlib import Path

import psutil

from operator_process import OperatorProcess, follow_lines
from waiting import wait_until

ECHO = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return payload
"""


def test_a_template_that_dies_with_an_order_in_hand_gives_it_back(
    start_operator: Callable[..., OperatorProcess],
) -> None:
    operator = start_operator("--keep-warm", "600")
    operator.deploy(ECHO)
    operator.wait(operator.submit([1]))
    operator.wait_until_at_rest(blanks=1)
    (template,) = operator.worker_processes("cortex-template")
    template.suspend()
    job = operator.submit([1, 2], workers=2)
    assert "spinning up workers..." in follow_lines(operator, job)

    template.kill()

    assert operator.wait(job)["status"] == "status_succeeded"


def test_jobs_in_quick_succession_never_meet_a_supervisor_that_is_leaving(operator: OperatorProcess) -> None:
    operator.deploy(ECHO)

    statuses = [operator.wait(operator.submit([number]))["status"] for number in range(30)]

    assert statuses == ["status_succeeded"] * 30


def test_a_worker_that_dies_while_it_constructs_does_not_end_a_job_that_has_run(
    operator: OperatorProcess, tmp_path: Path
) -> None:
    operator.deploy(
        f"""
        import os
        class PythonPredictor:
            def __init__(self, config):
                if os.path.exists({str(tmp_path / "predict")!r}) and not os.path.exists({str(tmp_path / "init")!r}):
                    open({str(tmp_path / "init")!r}, "w").close()
                    os._exit(1)

            def predict(self, payload):
                if payload == [3] and not os.path.exists({str(tmp_path / "predict")!r}):
                    open({str(tmp_path / "predict")!r}, "w").close()
                    os._exit(1)
                return payload
        """
    )
    job = operator.submit(list(range(8)))

    assert operator.wait(job)["status"] == "status_succeeded"
    assert list(range(8)) == operator.rows(job)


def test_workers_that_end_before_they_begin_are_not_replaced_without_end(operator: OperatorProcess) -> None:
    operator.deploy("import os\n" + "os._exit(7)\n" + ECHO.replace("\n    ", "\n"))
    job = operator.submit([1], workers=2)

    status = operator.wait(job)

    assert status["status"] == "status_worker_error"
    assert "exited with code 7 before its predictor was ready" in status["status_reason"]
    assert operator.log(job).count("exited with code 7") <= 6  # three in a row, those started with them, the verdict


def test_a_clean_stop_waits_for_the_hook(operator: OperatorProcess, tmp_path: Path) -> None:
    operator.deploy(
        ECHO
        + f"""
        def on_job_complete(self):
            import time
            print("in the hook", flush=True)
            time.sleep(0.5)
            open({str(tmp_path / "done")!r}, "w").close()
"""
    )
    job = operator.submit([1])
    assert "in the hook" in follow_lines(operator, job)

    operator.stop()
    operator.start()

    assert (tmp_path / "done").exists()
    assert operator.wait(job)["status"] == "status_succeeded"
    assert operator.log(job).count("in the hook") == 1


def test_a_large_config_reaches_every_worker(operator: OperatorProcess) -> None:
    operator.deploy(
        ECHO.replace("return payload", "return len(self.text)").replace("pass", 'self.text = config["text"]')
    )
    job = operator.submit([1, 2], workers=2, config={"text": "é" * 1_500_000})

    assert operator.wait(job)["status"] == "status_succeeded"
    assert [1_500_000] * 2 == operator.rows(job)


def test_a_killed_supervisor_is_charged_to_no_batch(operator: OperatorProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    operator.deploy(
        f"""
        import os, time
        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                print("in predict", os.getpid(), flush=True)
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
                return payload
        """
    )
    job = operator.submit([1])
    for lives in range(4):
        seen = 0
        for line in follow_lines(operator, job):
            seen += line.startswith("in predict")
            if seen > lives:
                break
        if lives < 3:
            operator.worker_processes("cortex-superv")[0].kill()

    gate.touch()

    assert operator.wait(job)["status"] == "status_succeeded"


def test_a_dataset_of_many_workers_is_bounded_by_the_machine(operator: OperatorProcess) -> None:
    operator.deploy(ECHO, compute={"cpu": psutil.cpu_count()})
    job = operator.submit([1, 2, 3], workers=50)

    status = operator.wait(job)

    assert status["status"] == "status_succeeded"
    assert status["workers"] == 50
    assert operator.log(job).count("loading the predictor") == 1


def test_nothing_piles_up_over_many_jobs(start_operator: Callable[..., OperatorProcess]) -> None:
    operator = start_operator("--keep-warm", "600")
    operator.deploy(ECHO)
    assert operator.process is not None
    operator.wait(operator.submit([1], workers=2))
    wait_until(lambda: len(operator.worker_processes("cortex-blank")) == 2, "two blanks are ready")
    served = [psutil.Process(operator.process.pid), *operator.worker_processes("cortex-superv")]
    before = [process.num_fds() for process in served]

    for _ in range(40):
        operator.wait(operator.submit([1], workers=2))
    operator.wait_until_at_rest(blanks=2)

    assert [process.num_fds() for process in served] <= [count + 3 for count in before]
