"""The limit: plain processes over lists that are split before, with no queue, no disk, and nobody who watches."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection

import msgspec

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.rounds import Run


@contextmanager
def halves(load: Load) -> Iterator[Run]:
    """Have each process read and parse its half of the lines, once; both wait for the word, warm."""
    pipes, processes = [], []
    for number in range(WORKERS):
        here, there = multiprocessing.Pipe()
        process = multiprocessing.Process(target=_parse_half, args=(there, load, number))
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()

    def run() -> float:
        began_at = time.perf_counter()
        for pipe in pipes:
            pipe.send(None)
        for pipe in pipes:
            pipe.recv()
        return time.perf_counter() - began_at

    yield run
    for process in processes:
        process.join()


def _parse_half(pipe: Connection, load: Load, number: int) -> None:
    decoder = msgspec.json.Decoder()
    batches = load.batches // WORKERS
    with load.path.open("rb") as file:
        for _ in islice(file, number * batches * load.batch_size):
            pass
        pipe.send("ready")
        pipe.recv()
        for _ in range(batches):
            decoder.decode_lines(b"".join(islice(file, load.batch_size)))
    pipe.send("done")


def slept(sleeps: Sequence[float]) -> list[float]:
    """Give what each of these sleeps really takes where nothing else is done; each process has every second one."""
    shares = [sleeps[number::WORKERS] for number in range(WORKERS)]
    with multiprocessing.Pool(WORKERS) as pool:
        taken = pool.map(_sleep, shares, 1)
    return [taken[number % WORKERS][number // WORKERS] for number in range(len(sleeps))]


def _sleep(sleeps: Sequence[float]) -> list[float]:
    taken = []
    for seconds in sleeps:
        began_at = time.perf_counter()
        time.sleep(seconds)
        taken.append(time.perf_counter() - began_at)
    return taken
