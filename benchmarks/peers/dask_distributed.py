"""Dask distributed: a cluster on this machine, and the job is gone with its scheduler.

From its documentation ("Best practices", "Futures"): for pure Python code, processes with one thread each;
`Client.map` in batches of calls (`batch_size`), so that the scheduler gets few large messages; not `pure`, since equal
payloads must run each. The dashboard is off, and so is the advice to load data with Dask, which would make the batches.
"""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, warm_batches
from benchmarks.work import TASKS

SENT_TOGETHER = 1000


class DaskDistributed(Peer):
    """See the module."""

    name = "Dask distributed"
    needs = ("distributed",)

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        os.environ["DASK_LOGGING__DISTRIBUTED"] = "critical"  # of workers too, which say much when they are ended
        from distributed import Client, LocalCluster, wait

        with (
            LocalCluster(
                n_workers=WORKERS,
                threads_per_worker=1,
                dashboard_address=None,
                local_directory=str(folder),
                silence_logs="ERROR",
            ) as cluster,
            Client(cluster) as client,
        ):
            warnings.filterwarnings("ignore", message="Sending large graph")

            def run(load: Load) -> float:
                batches = batches_of(task, load)
                began_at = time.perf_counter()
                wait(client.map(TASKS[task], list(batches), pure=False, batch_size=SENT_TOGETHER))
                return time.perf_counter() - began_at

            wait(client.map(TASKS[task], warm_batches(task), pure=False))
            yield run
