"""A data directory that an earlier version of cortex has left in the middle of a job: this one ends the job."""

import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cortex.domain.batch import BatchState, EntryKind, Page
from cortex.domain.isolation import DeathKind, Part
from cortex.domain.job import JobStatus
from cortex.domain.layout import JobFolder
from cortex.premises import LEDGER
from cortex.storage.sqlite import SqliteLedger
from earlier_schemas import EARLIER, write_ledger
from job_files import append_entry, make_job, set_states
from operator_process import OperatorProcess

PREDICTOR = """
    import os

    class PythonPredictor:
        def __init__(self, config):
            self.record = config["record"]

        def note(self, what):
            with open(self.record, "a") as file:
                file.write(f"{what}\\n")

        def predict(self, payload):
            self.note(payload[0])
            if payload == [3]:
                os._exit(1)
            return payload

        def on_job_complete(self):
            self.note("hook")
"""

JOB = f"{2**62:016x}"
WORKER = f"{JOB}-0a0b0c0d"
BATCHES = 7


HAS_PARTS = 5
"""The schema from which on an account is of items of a batch."""


def leave_a_job(data: Path, schema: int) -> None:
    """Turn a data directory into one of an earlier version, which was killed in the middle of a job.

    Of seven batches, two have succeeded, one has failed, one has been the death of two workers, one was in predict.
    """
    folder, segments = make_job(data / "jobs" / JOB, 4, 3)
    for batch in (0, 1):
        append_entry(folder, WORKER, batch, f"{batch}\n".encode())
    failure = json.dumps({"type": "ValueError", "message": "two", "traceback": "...", "at_ns": 1, "pid": 7})
    append_entry(folder, WORKER, 2, f"{failure}\n".encode(), kind=EntryKind.FAILURE)
    rows = BatchState.SUCCEEDED_WITH_ROWS
    set_states(folder, segments[0], [rows, rows, BatchState.FAILED, BatchState.OPEN])
    write_page(folder, current=4, token=1 << 40 | 3, first=4, limit=7)

    ledger = data / LEDGER
    with closing(sqlite3.connect(ledger)) as new:
        versions = new.execute("SELECT * FROM versions").fetchall()
        apis = new.execute("SELECT * FROM apis").fetchall()
    ledger.unlink()
    write_ledger(schema, ledger)
    with closing(sqlite3.connect(ledger, isolation_level=None)) as old:
        old.execute("INSERT INTO operator VALUES (1, 1, 'this boot')")
        old.executemany("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", versions)
        old.executemany("INSERT INTO apis VALUES (?, ?, ?)", apis)
        old.execute(
            "INSERT INTO jobs (id, api_name, api_id, workers, batch_size, item_count, total_batch_count, status,"
            " created_at_ns, started_at_ns) VALUES (?, 'api', ?, 1, 1, 7, 7, 'status_running', 1, 2)",
            (JOB, apis[0][1]),
        )
        old.executemany(
            "INSERT INTO segments (job_id, number, first, count) VALUES (?, ?, ?, ?)",
            [(JOB, segment.number, segment.first, segment.count) for segment in segments],
        )
        old.execute(
            "INSERT INTO workers (worker, job_id, supervisor, pid, process_started_at) VALUES (?, ?, 's', ?, 1.0)",
            (WORKER, JOB, pid_of_nobody()),
        )
        death: tuple[object, ...] = (JOB, 3, 2, "exited with code 1", 0)
        if schema >= HAS_PARTS:
            death = (JOB, 3, 0, 1, 2, 0, "exited with code 1", "died")
        old.execute(f"INSERT INTO deaths VALUES ({', '.join('?' * len(death))})", death)  # noqa: S608 - question marks


def write_page(folder: JobFolder, *, current: int, token: int, first: int, limit: int) -> None:
    """Write the page of the worker that was in a batch."""
    words = [0] * (Page.SIZE // 8)
    words[Page.CURRENT], words[Page.TOKEN], words[Page.FIRST], words[Page.LIMIT] = current + 1, token, first, limit
    folder.page(WORKER).write_bytes(struct.pack(f"@{len(words)}Q", *words))


def pid_of_nobody() -> int:
    """Give the id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("schema", EARLIER)
def test_a_job_that_an_earlier_version_has_begun_is_ended_by_this_one(
    start_operator: Callable[..., OperatorProcess], tmp_path: Path, schema: int
) -> None:
    operator = start_operator("--keep-warm", "0")
    operator.deploy(PREDICTOR, config={"record": str(tmp_path / "record")})
    assert operator.stop() == ""
    leave_a_job(operator.data_dir, schema)

    operator.start()
    status = operator.wait(JOB)

    assert (JobStatus.WORKER_ERROR, BATCHES) == (status["status"], status["total_batch_count"])
    assert (5, 2) == (status["batch_metrics"]["succeeded"], status["batch_metrics"]["failed"])
    assert [0, 1, 4, 5, 6] == operator.rows(JOB)
    failures = [json.loads(line) for line in operator.http.get(f"/api/{JOB}/failures").text.splitlines()]
    assert [(2, "ValueError"), (3, "WorkerDied")] == [(each["first_item"], each["type"]) for each in failures]
    assert ["3", "4", "5", "6", "hook"] == sorted((tmp_path / "record").read_text().splitlines())
    assert operator.stop() == ""
    with closing(SqliteLedger(operator.data_dir / LEDGER)) as ledger:
        (death,) = ledger.deaths(JOB)
        assert (3, Part(0, 1), 3, DeathKind.DIED) == (death.batch, death.part, death.deaths, death.kind)
        assert list(ledger.workers(JOB)) == []
