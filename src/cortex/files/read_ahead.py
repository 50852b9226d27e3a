"""Reading what comes over a network while what has come is used."""

import io
import threading
from collections.abc import Generator
from queue import Empty, Queue
from typing import BinaryIO, Final, cast

PIECE_BYTES: Final = 2**18
"""Of what is read ahead, so much is best asked for at once: larger ones take fresh memory, and more of it."""

_PIECES_AHEAD: Final = 16
MOST_AHEAD_BYTES: Final = _PIECES_AHEAD * PIECE_BYTES
"""A file of no more is read to its end before anybody reads it."""

_Told = bytes | BaseException | None  # a piece, why there is none, or the end


def read_ahead(pieces: Generator[bytes, None, None], *, name: str) -> BinaryIO:
    """Make a file of pieces, which a thread takes from their generator, sixteen ahead at most.

    What the generator raises, the read raises that comes to it, and each one after. To close the file early stops
    the thread at its next piece, and the generator is closed in it; nobody waits for that.
    """
    return cast(BinaryIO, io.BufferedReader(_PiecesFile(pieces, name), PIECE_BYTES))


class _PiecesFile(io.RawIOBase):
    def __init__(self, pieces: Generator[bytes, None, None], name: str) -> None:
        self._told: Queue[_Told] = Queue(_PIECES_AHEAD)
        self._stopped = threading.Event()
        self._rest = memoryview(b"")
        self._end: BaseException | None = None
        self._has_ended = False
        # The thread must not hold this object: one that is dropped is to be closed.
        arguments = (pieces, self._told, self._stopped)
        threading.Thread(target=_fetch, args=arguments, name=f"read-ahead {name}", daemon=True).start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while not self._rest and not self._has_ended:
            self._take(self._told.get())
        if self._end is not None and not self._rest:
            raise self._end
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _take(self, piece: _Told) -> None:
        if isinstance(piece, bytes):
            self._rest = memoryview(piece)
        else:
            self._end, self._has_ended = piece, True

    def close(self) -> None:
        if not self.closed:
            self._stopped.set()
            self._rest = memoryview(b"")
            # The thread may be waiting for room; it takes that which is made here, and then sees that it is over.
            while True:
                try:
                    self._told.get_nowait()
                except Empty:
                    break
        super().close()


def _fetch(pieces: Generator[bytes, None, None], told: Queue[_Told], stopped: threading.Event) -> None:
    end: BaseException | None = None
    try:
        for piece in pieces:
            told.put(piece)
            if stopped.is_set():
                break
    except BaseException as error:  # whatever it is, the reader is to have it
        end = error
    finally:
        pieces.close()
    if not stopped.is_set():
        told.put(end)
