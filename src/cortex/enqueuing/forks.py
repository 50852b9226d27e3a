"""The same work on all CPUs: forked processes that have all that this one has, and hand back bytes."""

import os
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from cortex.worker.kernel import die_with_parent

_MOST: Final = 8  # more would wait for the memory, not for CPUs
_LENGTH_BYTES: Final = 8

Work = Callable[[int], bytes]


def in_forks(work: Work, count: int) -> Generator[bytes, None, None]:
    """Give `work(0)` to `work(count - 1)`, in order; each process is ahead by what a pipe holds.

    What a process cannot do, because there can be no more of them, or it was killed, or its work raises, is done here,
    so an error is raised here, too. They end with this generator, and with this process. There are none where one CPU,
    or one piece of work, is all there is.
    """
    forks = min(len(os.sched_getaffinity(0)), count, _MOST)
    if forks < 2:
        yield from map(work, range(count))
        return
    begun: dict[int, _Fork] = {}
    try:
        with suppress(OSError):
            for number in range(forks):
                begun[number] = _begin(work, range(number, count, forks))
        for number in range(count):
            fork = begun.get(number % forks)
            result = fork.next() if fork else None
            yield work(number) if result is None else result
    finally:
        for fork in begun.values():
            fork.end()


@dataclass(frozen=True, slots=True)
class _Fork:
    pid: int
    results: BinaryIO

    def next(self) -> bytes | None:
        """Give its next result, None where there is none any more."""
        length = int.from_bytes(self.results.read(_LENGTH_BYTES), "little")
        result = self.results.read(length)
        return result if length and len(result) == length else None

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # it is there until it is reaped, also if it has ended
        os.waitpid(self.pid, 0)
        self.results.close()


def _begin(work: Work, numbers: Sequence[int]) -> _Fork:
    """Fork a process for these pieces of work, each of which must give at least one byte. Raises OSError."""
    parent = os.getpid()
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        try:
            os.close(reading)
            die_with_parent()
            if os.getppid() == parent:
                _do(work, numbers, writing)
        finally:
            os._exit(0)  # whatever was raised: whoever reads does without us
    os.close(writing)
    return _Fork(pid, open(reading, "rb"))  # noqa: PTH123


def _do(work: Work, numbers: Sequence[int], pipe: int) -> None:
    with open(pipe, "wb", buffering=0) as results:
        for number in numbers:
            result = memoryview(work(number))
            results.write(len(result).to_bytes(_LENGTH_BYTES, "little"))
            while result:
                result = result[results.write(result) :]
