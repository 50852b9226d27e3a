"""Whole lines of what comes in pieces."""

from collections.abc import Iterable, Iterator


def line_blocks(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Give, after each piece, the lines that have ended with it, if any; at last what no line end follows."""
    begun: list[bytes] = []
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        if ended:
            ended[0] = b"".join([*begun, ended[0]])
            begun.clear()
            yield ended
        begun.append(rest)
    if last := b"".join(begun):
        yield [last]
