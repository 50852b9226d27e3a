"""A small job outlives a power cut: what the disk has of it is in the ledger alone.

The power is cut by what it leaves: no process, the ledger as of its last synced commit, and nothing of the job's
folder, of which no file was ever synced.
"""

import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cortex.premises import LEDGER
from operator_process import PREPARED, DidNotStart, OperatorProcess
from prepared_operator import BOOT_ID, BOUNDARIES, END_AT, ON_DISK, SYNC_SECONDS
from processes import kill
from waiting import wait_until

PREDICTOR = """
    class PythonPredictor:
        def __init__(self, config):
            self.calls = config["calls"]

        def predict(self, payload):
            with open(self.calls, "a") as calls:
                calls.write("called\\n")
            if 5 in payload:
                raise ValueError("five")
            return payload
"""

ITEMS = list(range(7))
KEY = {"Idempotency-Key": "the-only-one"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine with an operator, whose power may be cut."""

    operator: OperatorProcess
    folder: Path

    def start(self, boot: str, **env: str) -> None:
        """Start the operator in this run of the machine."""
        names = {BOUNDARIES: str(self.folder / "boundaries"), ON_DISK: str(self.on_disk), BOOT_ID: boot}
        self.operator.start({**names, SYNC_SECONDS: "3600", **env})

    @property
    def on_disk(self) -> Path:
        """Where the ledger is kept as it is on the disk."""
        return self.folder / "on-disk"

    @property
    def calls(self) -> int:
        """How often predict was called in all."""
        return len((self.folder / "calls").read_text().splitlines())

    def submit(self) -> str:
        """Have the job, which may be there already; give its id."""
        self.operator.deploy(PREDICTOR, config={"calls": str(self.folder / "calls")})
        request = {"workers": 1, "item_list": {"items": ITEMS, "batch_size": 1}}
        answer = self.operator.http.post("/api", json=request, headers=KEY)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["job_id"])

    def cut_power(self) -> None:
        """Leave nothing but what is on the disk; the operator is dead."""
        kill(*self.operator.worker_processes())
        data = self.operator.data_dir
        for file in data.glob(f"{LEDGER}*"):
            file.unlink()
        for file in self.on_disk.iterdir():
            shutil.copy(file, data)
        shutil.rmtree(data / "jobs")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "on-disk").mkdir()
    operator = OperatorProcess(tmp_path / "data", "--keep-warm", "0", program=PREPARED)
    yield Machine(operator=operator, folder=tmp_path)
    if operator.process is not None:
        operator.stop()


@pytest.mark.parametrize(
    "boundary", ["after add_job", "before move", "after move", "before add_worker", "after add_worker"]
)
def test_a_small_job_is_there_after_a_power_cut_and_runs_to_its_end(machine: Machine, boundary: str) -> None:
    with suppress(httpx.TransportError):
        machine.start("first", **{END_AT: boundary})
        machine.operator.wait(machine.submit())
    assert -signal.SIGKILL == machine.operator.wait_for_death()
    machine.cut_power()

    machine.start("second")
    recorded = [job["job_id"] for job in machine.operator.http.get("/api").json()["jobs"]]
    job = machine.submit()
    status = machine.operator.wait(job)

    assert [job] == recorded
    assert "status_completed_with_failures" == status["status"]
    assert [item for item in ITEMS if item != 5] == machine.operator.rows(job)


def test_the_results_of_a_small_job_that_has_ended_are_there_after_a_power_cut(machine: Machine) -> None:
    machine.start("first")
    job = machine.submit()
    ended = machine.operator.wait(job)
    machine.operator.kill()
    machine.cut_power()

    machine.start("second")

    failures = [json.loads(line) for line in machine.operator.http.get(f"/api/{job}/failures").text.splitlines()]
    assert ended == machine.operator.status(job)
    assert [item for item in ITEMS if item != 5] == machine.operator.rows(job)
    assert [5] == [failure["first_item"] for failure in failures]
    assert machine.operator.http.get(f"/api/{job}/verify").json()["is_complete"]
    assert len(ITEMS) == machine.calls


def test_an_operator_that_dies_when_its_epoch_has_begun_has_written_the_files_before(machine: Machine) -> None:
    machine.start("first")
    job = machine.submit()
    machine.operator.wait(job)
    machine.operator.kill()
    machine.cut_power()

    with suppress(DidNotStart):
        machine.start("second", **{END_AT: "after begin_epoch"})
    machine.start("second")  # which cannot know any more that the power was cut

    assert [item for item in ITEMS if item != 5] == machine.operator.rows(job)


def test_what_was_synced_is_forgotten_by_the_ledger(machine: Machine) -> None:
    machine.start("first", **{SYNC_SECONDS: "0.05"})
    job = machine.submit()
    machine.operator.wait(job)

    with closing(sqlite3.connect(machine.operator.data_dir / LEDGER)) as ledger:
        while ledger.execute("SELECT count(*) FROM unsynced").fetchone() != (0,):
            machine.operator.status(job)  # which takes some time

    wait_until(lambda: "after forget_unsynced" in (machine.folder / "boundaries").read_text(), "that was what did it")
