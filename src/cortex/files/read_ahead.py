"""Reading what comes over a network while what has come is used."""

import io
import threading
from collections.abc import Generator
from queue import Empty, Queue
from typing import BinaryIO, Final, cast

BLOCK_BYTES: Final = 4 * 2**20
BLOCKS_AHEAD: Final = 4

_Piece = bytes | BaseException | None  # a block, why there is none, or the end


def read_ahead(blocks: Generator[bytes, None, None], *, name: str, blocks_ahead: int = BLOCKS_AHEAD) -> BinaryIO:
    """Make a file of blocks, which a thread takes from their generator, at most so many ahead.

    What the generator raises, the read raises that comes to it, and each one after. To close the file early stops
    the thread at its next block, and the generator is closed in it; nobody waits for that.
    """
    return cast(BinaryIO, io.BufferedReader(_BlockFile(blocks, name, blocks_ahead), 2**20))


class _BlockFile(io.RawIOBase):
    def __init__(self, blocks: Generator[bytes, None, None], name: str, blocks_ahead: int) -> None:
        self._pieces: Queue[_Piece] = Queue(blocks_ahead)
        self._stopped = threading.Event()
        self._rest = memoryview(b"")
        self._end: BaseException | None = None
        self._has_ended = False
        # The thread must not hold this object: one that is dropped is to be closed.
        arguments = (blocks, self._pieces, self._stopped)
        threading.Thread(target=_fetch, args=arguments, name=f"read-ahead {name}", daemon=True).start()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while not self._rest and not self._has_ended:
            self._take(self._pieces.get())
        if self._end is not None and not self._rest:
            raise self._end
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def _take(self, piece: _Piece) -> None:
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
                    self._pieces.get_nowait()
                except Empty:
                    break
        super().close()


def _fetch(blocks: Generator[bytes, None, None], pieces: Queue[_Piece], stopped: threading.Event) -> None:
    end: BaseException | None = None
    try:
        for block in blocks:
            pieces.put(block)
            if stopped.is_set():
                break
    except BaseException as error:  # whatever it is, the reader is to have it
        end = error
    finally:
        blocks.close()
    if not stopped.is_set():
        pieces.put(end)
