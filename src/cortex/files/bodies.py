"""Reading a file over connections that may break, from where each broke."""

import time
from collections.abc import Callable, Generator

from cortex.domain.errors import FileChanged, FilesError
from cortex.files.files import FileInfo
from cortex.files.patience import Patience

Pieces = Generator[bytes, None, None]
AskRange = Callable[[int, int | None], Pieces]
"""Asks for what begins at a position and ends at another, or with the file."""


class BrokenOff(Exception):
    """The connection broke, and may be made again; `reason` is what to say where that does not help."""

    def __init__(self, reason: FilesError) -> None:
        super().__init__(str(reason))
        self.reason = reason


def changed(file: FileInfo) -> FileChanged:
    """Say that a file is not what was listed."""
    return FileChanged(
        f"`{file.url}` has changed since it was listed", hint="submit again when nothing writes to it any more"
    )


def not_there(url: str, offset: int, length: int) -> FileChanged:
    """Say that these bytes of a file are not there."""
    return FileChanged(f"`{url}` is not there, or has no {length} bytes from {offset} on")


def body(file: FileInfo, ask: AskRange, patience: Patience, *, begin: int = 0, end: int | None = None) -> Pieces:
    """Give the bytes of a file, or those of a range of it, in pieces.

    `ask` is called with a position and an end and gives pieces from there to there, of the version that was listed. It
    raises BrokenOff, then it is asked again. As long as bytes come between, patience is not used up.
    """
    position, last = begin, file.size_bytes if end is None else end
    pauses = patience.pauses()
    while True:
        pieces = ask(position, end)
        try:
            for piece in pieces:
                position += len(piece)
                if position > last:  # before more of it is held than was asked for
                    raise changed(file)
                pauses = patience.pauses()
                yield piece
        except BrokenOff as broken:
            if position == last:
                return  # after the last byte; a range from there could not be asked for
            pause = next(pauses, None)
            if pause is None:
                raise broken.reason from broken
        else:
            break
        finally:
            pieces.close()
        time.sleep(pause)
    if position != last:
        raise changed(file)
