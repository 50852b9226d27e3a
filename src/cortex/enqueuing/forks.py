"""The same work on all CPUs: forked processes that have all that this one has, and hand back bytes."""

import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, Final, TypeVar

from cortex.worker.kernel import die_with_parent, write_all

_MOST: Final = 8  # more would wait for the memory, not for CPUs
_AHEAD: Final = 2  # orders that a process has: one in work, and the next
_LENGTH_BYTES: Final = 8

_Order = TypeVar("_Order")


def in_forks(
    work: Callable[[_Order], bytes], orders: Iterable[_Order], most: int = _MOST
) -> Generator[bytes, None, None]:
    """Give what the work makes of each order, in order; it is done while the next orders are fetched.

    An order is a few numbers. The processes are there before the first is fetched, `most` of them at most. What a
    process cannot do, because there can be no more of them, or it was killed, or its work raises, is done here, so an
    error is raised here, too. They end with this generator, and with this process. There are none where one CPU, or
    one piece of work, is all there is.
    """
    count = min(len(os.sched_getaffinity(0)), most, _MOST)
    if count < 2:
        yield from map(work, orders)
        return
    begun: dict[int, _Fork] = {}
    waiting = deque[tuple[_Order, _Fork | None]]()
    try:
        with suppress(OSError):
            for number in range(count):
                begun[number] = _begin(work)
        for number, order in enumerate(orders):
            fork = begun.get(number % count)
            if fork:
                fork.ask(order)
            waiting.append((order, fork))
            if len(waiting) == count * _AHEAD:
                yield _result(work, *waiting.popleft())
        while waiting:
            yield _result(work, *waiting.popleft())
    finally:
        for fork in begun.values():
            fork.kill()  # all of them first: a large process takes milliseconds to end
        for fork in begun.values():
            fork.reap()


def _result(work: Callable[[_Order], bytes], order: _Order, fork: "_Fork | None") -> bytes:
    result = fork.next() if fork else None
    return work(order) if result is None else result


@dataclass(frozen=True, slots=True)
class _Fork:
    pid: int
    orders: BinaryIO
    results: BinaryIO

    def ask(self, order: object) -> None:
        with suppress(BrokenPipeError):  # it was killed: there will be no result
            pickle.dump(order, self.orders)
            self.orders.flush()

    def next(self) -> bytes | None:
        """Give its next result, None where there is none any more."""
        length = int.from_bytes(self.results.read(_LENGTH_BYTES), "little")
        result = self.results.read(length)
        return result if length and len(result) == length else None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)  # it is there until it is reaped, also if it has ended

    def reap(self) -> None:
        os.waitpid(self.pid, 0)
        with suppress(BrokenPipeError):
            self.orders.close()
        self.results.close()


def _begin(work: Callable[[_Order], bytes]) -> _Fork:
    """Fork a process for this work, which must give at least one byte each time. Raises OSError."""
    parent = os.getpid()
    orders, asking = os.pipe()
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        for end in (orders, asking, reading, writing):
            os.close(end)
        raise
    if pid == 0:
        try:
            os.close(asking)
            os.close(reading)
            die_with_parent()
            if os.getppid() == parent:
                _do(work, orders, writing)
        finally:
            os._exit(0)  # whatever was raised: whoever reads does without us
    os.close(orders)
    os.close(writing)
    return _Fork(pid, open(asking, "wb"), open(reading, "rb"))  # noqa: PTH123


def _do(work: Callable[[_Order], bytes], orders: int, pipe: int) -> None:
    with open(orders, "rb") as asked:
        while True:
            result = work(pickle.load(asked))  # noqa: S301 - it comes from whoever has forked us
            write_all(pipe, len(result).to_bytes(_LENGTH_BYTES, "little"))
            write_all(pipe, result)
