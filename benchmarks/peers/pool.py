"""multiprocessing.Pool: the standard library's own, and nothing survives a crash.

`imap_unordered` is what its documentation has for results in any order. It says that for long iterables a large
`chunksize` is much faster than the default of 1; so there are two, with 1 (a batch that fails is one batch, as in a
queue) and with 16.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, batches_of, warm_batches
from benchmarks.work import TASKS

POOL, CHUNKED_POOL = "Pool (chunksize 1)", "Pool (chunksize 16)"


class Pool(Peer):
    """See the module."""

    def __init__(self, *, chunk_size: int) -> None:
        self.name = f"Pool (chunksize {chunk_size})"
        self._chunk_size = chunk_size

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:  # noqa: ARG002 - it keeps nothing on disk
        with multiprocessing.Pool(WORKERS) as pool:

            def run(load: Load) -> float:
                batches = batches_of(task, load)
                began_at = time.perf_counter()
                for _ in pool.imap_unordered(TASKS[task], batches, self._chunk_size):
                    pass
                return time.perf_counter() - began_at

            list(pool.imap_unordered(TASKS[task], warm_batches(task)))
            yield run
