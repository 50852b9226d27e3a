"""Reading a large file over several connections, where one alone is slow.

Storages limit what a connection gives, to 50 to 100 MB/s often, and give as much over each of many. A server nearby
gives more over one than we can use, and to ask it for ranges would only cost time.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from threading import Event
from typing import Final

from cortex.domain.errors import FilesError
from cortex.files.bodies import AskRange, Pieces, body
from cortex.files.files import FileInfo
from cortex.files.patience import Patience

CONNECTIONS: Final = 8
RANGE_BYTES: Final = 1024 * 1024
TRIAL_BYTES: Final = 8 * 1024 * 1024
"""One connection gives so many before it is judged."""

_QUICK_BYTES_PER_SECOND: Final = 150e6


def quick_body(
    file: FileInfo,
    ask: AskRange,
    patience: Patience,
    *,
    quick: float = _QUICK_BYTES_PER_SECOND,
    clock: Callable[[], float] = time.perf_counter,
) -> Pieces:
    """Give all bytes of a file in pieces, in order, as `body` does; a connection of `quick` bytes/s stays alone.

    Where it is slower, ranges are asked for ahead, of which about 8 MiB are held. A server that gives no ranges is
    read on over the one connection.
    """
    position, seconds = 0, 0.0
    with closing(body(file, ask, patience)) as alone:
        while position < TRIAL_BYTES:
            asked_at = clock()
            piece = next(alone, None)
            if piece is None:
                return
            if position:  # an answer takes a while to begin, whatever comes then
                seconds += clock() - asked_at
            position += len(piece)
            yield piece
        begin = position + RANGE_BYTES
        if position >= quick * seconds or begin >= file.size_bytes:
            yield from alone
            return
        with closing(_Ranges(file, begin, ask, patience)) as ranges:
            while position < begin:  # what it gives meanwhile is not thrown away
                piece = next(alone)
                position += len(piece)
                yield piece
            try:
                first = next(ranges)
            except FilesError:  # it gives no ranges, or whatever it is, this connection will tell
                ranges.close()
                yield from alone
                return
            alone.close()
            yield from _behind(position - begin, chain(first, chain.from_iterable(ranges)))


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

    def __next__(self) -> list[bytes]:
        if not self._asked:
            raise StopIteration
        pieces = self._asked.popleft().result()
        self._ask_ahead()
        return pieces

    def close(self) -> None:
        """Stop each thread at its next piece; nobody waits for that."""
        self._stopped.set()
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
