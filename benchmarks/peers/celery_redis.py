"""Celery with Redis, so that a batch whose worker dies is not lost.

From its documentation ("Optimizing", "Calling tasks", "Redis"):
- `task_acks_late`, since the batch must come back if its worker dies;
- `worker_prefetch_multiplier` 64: "64, or 128" is its advice for many short tasks;
- results are ignored: "if you don't care about the results, ignore them"; where one batch is waited for (W4), there is
  a second Celery that keeps results in Redis and whose client is told by `get()`, as a client of cortex is;
- a producer is held while tasks are sent, so that connection and channel are reused;
- two workers with the `solo` pool instead of one with two processes: the tasks need no more than one process each, and
  it saves a hop between processes (measured: a tenth faster than `prefork`);
- gossip, mingle and heartbeats between workers are off; nothing here uses them.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, timed_run, warm, worker_processes
from benchmarks.peers.redis_server import missing, running_redis
from benchmarks.work import Ended, do_and_tell

URL_VARIABLE = "BENCHMARK_CELERY_URL"
RESULTS_VARIABLE = "BENCHMARK_CELERY_RESULTS"
CELERY, CELERY_RESULTS = "Celery + Redis", "Celery + Redis, result waited for"


class CeleryRedis(Peer):
    """See the module."""

    needs = ("celery", "redis")

    def __init__(self, *, has_results: bool = False) -> None:
        self.name = CELERY_RESULTS if has_results else CELERY
        self._has_results = has_results

    def missing(self) -> str:
        return super().missing() or missing()

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        ended = Ended(folder / "ended")
        options = ["--pool", "solo", "--prefetch-multiplier", "64", "--loglevel", "ERROR"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        commands = [
            ["celery", "--app", "benchmarks.peers.celery_redis:app", "worker", *options, "--hostname", f"w{number}@%h"]
            for number in range(WORKERS)
        ]
        with running_redis(folder) as url:
            celery = make_app(url, has_results=self._has_results)
            variables = {**ended.variables(task), URL_VARIABLE: url}
            if self._has_results:
                variables[RESULTS_VARIABLE] = "yes"
            with worker_processes(commands, folder, variables), celery.producer_pool.acquire(block=True) as producer:
                do = celery.tasks["do"]

                def send(batch: Any) -> Any:
                    text = batch.decode() if isinstance(batch, bytes) else batch  # tasks travel as JSON
                    return do.apply_async((text,), producer=producer)

                def run(load: Load) -> float:
                    if self._has_results:
                        batches = batches_of(task, load)
                        began_at = time.perf_counter()
                        for result in [send(batch) for batch in batches]:
                            result.get()
                        return time.perf_counter() - began_at
                    return timed_run(send, ended, batches_of(task, load), load.batches)

                warm(task, send, ended)
                yield run
            celery.close()


def make_app(url: str, *, has_results: bool) -> Any:
    """Make the application, which workers and driver have alike."""
    from celery import Celery

    celery = Celery("benchmark", broker=url, backend=url if has_results else None)
    celery.conf.update(task_acks_late=True, task_ignore_result=not has_results, worker_prefetch_multiplier=64)
    celery.task(name="do")(do_and_tell)
    celery.finalize()
    return celery


if URL_VARIABLE in os.environ:
    app = make_app(os.environ[URL_VARIABLE], has_results=RESULTS_VARIABLE in os.environ)
