"""What operator, supervisors and Workers say to each other: frames of a length and a JSON object.

A Lease is tens of milliseconds of work, so any encoding is fast enough; this one can be read in a trace and needs
nothing that a user's environment may lack.
"""

import json
import struct
from typing import Any, Final

Frame = dict[str, Any]

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))  # one for all: making it takes as long as using it
_LENGTH: Final = struct.Struct("<I")
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024


class FrameError(Exception):
    """The peer does not speak this protocol."""


def encode(frame: Frame) -> bytes:
    """Turn a frame into bytes."""
    body = _ENCODER.encode(frame).encode()
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Turns a stream of bytes back into frames, however the stream was cut."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes and give the frames that they complete. Raises FrameError on anything else."""
        self._pending += data
        frames = []
        start = 0
        while len(self._pending) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._pending, start)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._pending) < end:
                break
            frames.append(_decode(bytes(self._pending[start + _LENGTH.size : end])))
            start = end
        del self._pending[:start]
        return frames


def _decode(body: bytes) -> Frame:
    try:
        frame = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise FrameError("a frame without a type")
    return frame
