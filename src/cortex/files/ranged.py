"""Reading a large file over several connections, where one alone is slow.

Storages limit what a connection gives, to 50 to 100 MB/s often, and give as much over each of many. A server nearby
gives more over one than we can use, and where answers take long to begin, ranges of this size take longer: there they
would only cost time.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from threading import Event
from typing import Final

from cortex.files.bodies import AskRange, Pieces, body
from cortex.files.files import FileInfo
from cortex.files.patience import Patience

CONNECTIONS: Final = 8
RANGE_BYTES: Final = 1024 * 1024
TRIAL_BYTES: Final = 8 * 1024 * 1024
"""One connection gives so many before it is judged."""

_QUICK_BYTES_PER_SECOND: Final = 150e6
_GAIN: Final = 1.2
"""Ranges must promise so many times the rate of one connection."""


def ranges_are_quicker(given_bytes: int, seconds: float, wait_seconds: float) -> bool:
    """Judge by what one connection gave in so many seconds, after its answer had taken a while to begin.

    That while is in every range once more.
    """
    if given_bytes >= _QUICK_BYTES_PER_SECOND * seconds:
        return False
    range_seconds = wait_seconds + RANGE_BYTES * seconds / given_bytes
    return CONNECTIONS * RANGE_BYTES * seconds >= _GAIN * given_bytes * range_seconds


def quick_body(
    file: FileInfo,
    ask: AskRange,
    patience: Patience,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Pieces:
    """Give all bytes of a file in pieces, in order, as `body` does.

    Where ranges are quicker, they are asked for ahead; about 9 MiB of them are held. Until the first has come, the one
    connection is read on, and to the end where a server gives no ranges.
    """
    with closing(body(file, ask, patience)) as alone:
        position, seconds, wait_seconds = yield from _trial(alone, clock)
        begin = position + RANGE_BYTES
        if begin < file.size_bytes and ranges_are_quicker(position, seconds, wait_seconds):
            with closing(_Ranges(file, begin, ask, patience)) as ranges:
                while position < begin or not ranges.have_begun:
                    piece = next(alone, None)
                    if piece is None:
                        return
                    position += len(piece)
                    yield piece
                if ranges.are_given:
                    alone.close()
                    yield from _behind(position - begin, chain.from_iterable(ranges))
                    return
        yield from alone


def _trial(alone: Pieces, clock: Callable[[], float]) -> Generator[bytes, None, tuple[int, float, float]]:
    """Give what comes first; return what `ranges_are_quicker` judges by."""
    position, seconds, wait_seconds = 0, 0.0, 0.0
    while position < TRIAL_BYTES:
        asked_at = clock()
        piece = next(alone, None)
        if piece is None:
            break
        if position:
            seconds += clock() - asked_at
        else:
            wait_seconds = clock() - asked_at
        position += len(piece)
        yield piece
    return position, seconds, wait_seconds


def _behind(count: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out the first so many bytes."""
    for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(0, count - len(piece))


class _Ranges(Iterator[list[bytes]]):
    """The rest of a file, range by range; as many as there are connections are asked for ahead, from the start."""

    def __init__(self, file: FileInfo, begin: int, ask: AskRange, patience: Patience) -> None:
        self._file = file
        self._ask = ask
        self._patience = patience
        self._begins = iter(range(begin, file.size_bytes, RANGE_BYTES))
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix=f"read-range {file.url}")
        self._asked = deque[Future[list[bytes]]]()
        self._stopped = Event()
        for _ in range(CONNECTIONS):
            self._ask_ahead()

    @property
    def have_begun(self) -> bool:
        """Tell whether the first has come, or failed."""
        return self._asked[0].done()

    @property
    def are_given(self) -> bool:
        """Tell whether the first has come. Where it has failed, whatever the reason, the one connection will tell."""
        return self._asked[0].exception() is None

    def __next__(self) -> list[bytes]:
        if not self._asked:
            raise StopIteration
        pieces = self._asked.popleft().result()
        self._ask_ahead()
        return pieces

    def close(self) -> None:
        """Stop each thread at its next piece; nobody waits for that."""
        self._stopped.set()
        self._asked.clear()
        self._pool.shutdown(wait=False)

    def _ask_ahead(self) -> None:
        begin = next(self._begins, None)
        if begin is not None:
            self._asked.append(self._pool.submit(self._read, begin, min(begin + RANGE_BYTES, self._file.size_bytes)))

    def _read(self, begin: int, end: int) -> list[bytes]:
        pieces = list[bytes]()
        with closing(body(self._file, self._ask, self._patience, begin=begin, end=end)) as given:
            for piece in given:
                if self._stopped.is_set():
                    break
                pieces.append(piece)
        return pieces
