"""Dramatiq with Redis: a message is acknowledged after its actor has ended, which is its only mode.

From its documentation ("Advanced topics", "Workers"): as many processes as CPU-bound work needs and one thread in
each, since threads of one process share an interpreter lock; `dramatiq_queue_prefetch` 64, since messages are many and
short (its default of two per thread is ten times slower here); no result backend, since no results are asked for.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, timed_run, warm, worker_processes
from benchmarks.peers.redis_server import missing, running_redis
from benchmarks.work import Ended, do_and_tell

URL_VARIABLE = "BENCHMARK_DRAMATIQ_URL"


class DramatiqRedis(Peer):
    """See the module."""

    name = "Dramatiq + Redis"
    needs = ("dramatiq", "redis")

    def missing(self) -> str:
        return super().missing() or missing()

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        ended = Ended(folder / "ended")
        command = ["dramatiq", "benchmarks.peers.dramatiq_redis", "--processes", str(WORKERS), "--threads", "1"]
        with running_redis(folder) as url:
            actor = make_actor(url)
            variables = {**ended.variables(task), URL_VARIABLE: url, "dramatiq_queue_prefetch": "64"}
            with worker_processes([command], folder, variables):

                def send(batch: Any) -> None:
                    actor.send(batch.decode() if isinstance(batch, bytes) else batch)  # messages are JSON

                def run(load: Load) -> float:
                    return timed_run(send, ended, batches_of(task, load), load.batches)

                warm(task, send, ended)
                yield run
            actor.broker.close()


def make_actor(url: str) -> Any:
    """Make the actor, which workers and driver have alike."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url)
    dramatiq.set_broker(broker)
    return dramatiq.actor(do_and_tell, broker=broker, actor_name="do")


if URL_VARIABLE in os.environ:
    make_actor(os.environ[URL_VARIABLE])
