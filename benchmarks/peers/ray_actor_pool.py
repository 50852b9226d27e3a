"""A pool of Ray actors: one for each worker, on a CPU of its own; a batch of an actor that dies is lost.

From Ray's documentation ("Patterns and anti-patterns"): actors for what loads a model; what is small is sent together
(`chunk_size` batches in a call); the number of calls under way is bounded by `ray.wait`. `ray.util.ActorPool` has one
call under way for each actor and is slower: here more wait at each, so that no actor waits for its driver.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, warm_batches
from benchmarks.peers.ray_driver import connected
from benchmarks.work import TASKS

UNDER_WAY = 32


class RayActorPool(Peer):
    """See the module. Without the address of a cluster it has one of its own, of one node."""

    needs = ("ray",)

    def __init__(self, address: str | None = None, *, chunk_size: int) -> None:
        self.name = f"Ray actors (chunksize {chunk_size})"
        self._address = address
        self._chunk_size = chunk_size

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:  # noqa: ARG002 - it keeps nothing on disk
        with connected(self._address):
            import ray

            actors = [ray.remote(Worker).options(num_cpus=1).remote(task) for _ in range(WORKERS)]

            def send(batches: Iterable[Any]) -> None:
                """Have the actors do all batches: whoever has done one gets the next."""
                each_batch = iter(batches)
                chunks = iter(lambda: list(islice(each_batch, self._chunk_size)), [])
                under_way = {}
                for actor, chunk in zip(cycle(actors), chunks, strict=False):
                    under_way[actor.do.remote(chunk)] = actor
                    if len(under_way) == UNDER_WAY * len(actors):
                        break
                while under_way:
                    done, _ = ray.wait(list(under_way), num_returns=1)
                    done, _ = ray.wait(list(under_way), num_returns=len(under_way), timeout=0)
                    for each in done:
                        actor = under_way.pop(each)
                        if (chunk := next(chunks, None)) is not None:
                            under_way[actor.do.remote(chunk)] = actor
                    ray.get(done)

            def run(load: Load) -> float:
                batches = batches_of(task, load)
                began_at = time.perf_counter()
                send(batches)
                return time.perf_counter() - began_at

            for actor in actors:  # each, so that all have their model
                ray.get(actor.do.remote(warm_batches(task)))
            yield run


class Worker:
    """What an actor runs."""

    def __init__(self, task: str) -> None:
        self._do = TASKS[task]

    def do(self, batches: Iterable[Any]) -> None:
        """Do what the task is to each of these batches."""
        for batch in batches:
            self._do(batch)
