"""What operator, supervisors and Workers say to each other: frames of a length and a JSON object.

A Lease is tens of milliseconds of work, so any encoding is fast enough; this one can be read in a trace and needs
nothing that a user's environment may lack. What is no JSON, such as the body of a request, goes behind the object,
after a line break: compact JSON never holds one.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

Frame = dict[str, Any]

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))  # one for all: making it takes as long as using it
_LENGTH: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024

PIECE_BYTES: Final = 1024 * 1024
"""So much of a file, or of anything else that is large, goes into one frame at most."""

Message = tuple[Frame, bytes | None]
"""A frame, with its data."""


class FrameError(Exception):
    """The peer does not speak this protocol."""


def encode(frame: Frame, data: bytes | None = None) -> bytes:
    """Turn a frame into bytes; where there is data, its reader finds it under `data` in the frame."""
    head = _ENCODER.encode(frame).encode()
    if data is None:
        return _LENGTH.pack(len(head)) + head
    return b"".join((_LENGTH.pack(len(head) + 1 + len(data)), head, b"\n", data))


def pieces(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a range of bytes: give offset and length of each piece, in order."""
    for offset in range(begin, end, PIECE_BYTES):
        yield offset, min(PIECE_BYTES, end - offset)


class FrameReader:
    """Turns a stream of bytes back into frames, however the stream was cut."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and give the frames that they complete. Raises FrameError on anything else."""
        source: bytes | bytearray = data
        if self._pending:  # else whole frames are read from where they are
            source = self._pending
            source += data
        frames = []
        start, have = 0, len(source)
        while have - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(source, start)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if have < end:
                break
            frames.append(_decode(source, start + _LENGTH.size, end))
            start = end
        if source is data:
            self._pending += source[start:]
        else:
            del self._pending[:start]
        return frames


def _decode(source: bytes | bytearray, start: int, end: int) -> Frame:
    line_break = source.find(b"\n", start, end)
    try:
        frame = json.loads(source[start : end if line_break < 0 else line_break].decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise FrameError("a frame without a type")
    if line_break >= 0:
        with memoryview(source) as view:  # whose slice is no copy, so that of megabytes there is one only
            frame["data"] = bytes(view[line_break + 1 : end])
    return frame
