"""What a station tells the operator: frames, with what lies behind them."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from cortex.domain.frame import Frame

Message = tuple[Frame, bytes | None]

Told = Message | asyncio.Future[Iterable[Message]]
"""What is told, be it that it is not known yet: what is told after it waits for that."""

PIECE_BYTES: Final = 1024 * 1024
"""So much of a file goes into one frame at most."""


def pieces(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a range of bytes: give offset and length of each piece, in order."""
    for offset in range(begin, end, PIECE_BYTES):
        yield offset, min(PIECE_BYTES, end - offset)
