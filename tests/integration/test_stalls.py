"""A running job without progress says what it waits for, in its status and in its log."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cortex.domain.identity import batch_id
from operator_process import OperatorProcess, follow_lines

WAITS_FOR_A_WORD = """
    import os

    class PythonPredictor:
        def __init__(self, config):
            self.folder = config["folder"]
            self.wait("start")

        def predict(self, payload):
            self.wait(str(payload[0]))
            return os.getpid()

        def on_job_complete(self):
            self.wait("hook")

        def wait(self, gate):
            print(f"waits for {gate}", flush=True)
            with open(os.path.join(self.folder, gate)) as gate:
                gate.read()
"""


@pytest.fixture
def operator(start_operator: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that loses patience soon."""
    return start_operator("--keep-warm", "0", "--stall-after", "0.3")


def reason(operator: OperatorProcess, job: str, expected: str) -> str:
    """Wait until the status of a job says this; give all that it says."""
    while True:
        said = str(operator.status(job).get("status_reason"))
        if expected in said:
            return said


def test_a_job_says_where_it_stands_still_and_that_it_goes_on(operator: OperatorProcess, tmp_path: Path) -> None:
    for gate in ("start", "0", "1", "hook"):
        os.mkfifo(tmp_path / gate)
    operator.deploy(WAITS_FOR_A_WORD, config={"folder": str(tmp_path)})
    job = operator.submit([0, 1])
    lines = follow_lines(operator, job)

    causes = {
        "start": "the start of a predictor (import and `__init__`) has been running for ",
        "0": f"batch {batch_id(job, 0)} has been running for ",
        "1": f"batch {batch_id(job, 1)} has been running for ",
        "hook": "all batches have ended: `on_job_complete` has been running for ",
    }
    said = []
    for gate, cause in causes.items():
        said.append(reason(operator, job, cause))
        if gate != "start":  # before, the import may have been told, as the cause of the same stall
            said.append(next(line for line in lines if cause in line))
        (tmp_path / gate).write_text("go on")
    log = operator.log(job, follow=True)
    status = operator.status(job)

    pid, _ = operator.rows(job)
    assert [f"in worker pid-{pid}"] * len(said) == [each[-len(f"in worker pid-{pid}") :] for each in said]
    assert (status["status"], status.get("status_reason")) == ("status_succeeded", None)
    assert "the job goes on, after " in log
