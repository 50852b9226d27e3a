"""Huey with SQLite: the light one. A batch whose worker dies is lost, since it is deleted before it runs.

From its documentation ("Consumer", "Storage"): worker processes for CPU-bound work; results off where they are not
read; no `fsync`, so that a power cut may lose tasks (with it, its rate is a quarter). It polls, and its default of
looking each 100 ms to 10 s would be all that is seen of a single batch: it looks each 1 to 10 ms here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, timed_run, warm, worker_processes
from benchmarks.work import Ended, do_and_tell

FILE_VARIABLE = "BENCHMARK_HUEY_FILE"


class HueySqlite(Peer):
    """See the module."""

    name = "Huey + SQLite"
    needs = ("huey",)

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        ended, file = Ended(folder / "ended"), folder / "huey.sqlite"
        send = make_task(str(file))
        command = ["huey.bin.huey_consumer", "benchmarks.peers.huey_sqlite.queue", "--worker-type", "process"]
        command += ["--workers", str(WORKERS), "--delay", "0.001", "--max-delay", "0.01", "--quiet"]
        with worker_processes([command], folder, {**ended.variables(task), FILE_VARIABLE: str(file)}):

            def run(load: Load) -> float:
                return timed_run(send, ended, batches_of(task, load), load.batches)

            warm(task, send, ended)
            yield run
        send.huey.storage.close()


def make_task(file: str) -> Any:
    """Make the task, which consumer and driver have alike."""
    from huey import SqliteHuey

    return SqliteHuey("benchmark", filename=file, results=False, fsync=False).task(name="do")(do_and_tell)


queue = make_task(os.environ[FILE_VARIABLE]).huey if FILE_VARIABLE in os.environ else None
