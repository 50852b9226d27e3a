"""Opening a file for its text, compressed or not."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final, cast

import zstandard
from zlib_ng import zlib_ng

from cortex.domain.errors import FilesError
from cortex.files.files import FileInfo, Files

_BUFFER_BYTES: Final = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compression:
    name: str
    begin: Callable[[], Any]  # gives what decompresses one frame, or member
    error: type[Exception]  # which that raises
    padding: bytes  # what may stand behind a frame
    piece_bytes: int  # what is decompressed at once: so small that memory is not used up, whatever it becomes


_COMPRESSIONS: Final = {
    ".gz": _Compression(
        name="gzip",
        begin=partial(zlib_ng.decompressobj, wbits=16 + zlib_ng.MAX_WBITS),
        error=cast(type[Exception], zlib_ng.error),
        padding=b"\0",
        piece_bytes=2**13,  # which becomes a thousand times as much at most
    ),
    ".zst": _Compression(
        name="zstd",
        begin=lambda: zstandard.ZstdDecompressor().decompressobj(),
        error=zstandard.ZstdError,
        padding=b"",
        piece_bytes=2**9,  # 32,768 times
    ),
}
"""By the end of a file's name."""


def open_text(files: Files, file: FileInfo) -> BinaryIO:
    """Open a file that was listed; one that is named `.gz` or `.zst` is decompressed while it is read.

    Several members or frames, one after another, are one text, as all tools have it. Raises what `Files.open` does,
    and FilesError where the compressed data is damaged or ends too early.
    """
    source = files.open(file)
    for ending, compression in _COMPRESSIONS.items():
        if file.url.endswith(ending):
            return cast(BinaryIO, io.BufferedReader(_Text(file, source, compression), _BUFFER_BYTES))
    return source


def is_compressed(url: str) -> bool:
    """Tell whether a file of this name is decompressed while it is read."""
    return url.endswith(tuple(_COMPRESSIONS))


class _Text(io.RawIOBase):
    # The libraries' own readers are no use: zstd's gives a file that ends in the middle of a frame as if it were whole.
    def __init__(self, file: FileInfo, source: BinaryIO, compression: _Compression) -> None:
        self._file = file
        self._source = source
        self._compression = compression
        self._frame = compression.begin()
        self._is_in_frame = False
        self._padding = b""  # what may come next, and counts for nothing
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._text:
            piece = self._source.read(self._compression.piece_bytes)
            if not piece:
                if self._is_in_frame:
                    raise FilesError(
                        f"`{self._file.url}` ends in the middle of its compressed data", hint="upload it again, whole"
                    )
                return 0
            self._text = memoryview(self._decompress(piece))
        count = min(len(buffer), len(self._text))
        buffer[:count] = self._text[:count]
        self._text = self._text[count:]
        return count

    def _decompress(self, piece: bytes) -> bytes:
        parts: list[bytes] = []
        try:
            while piece := piece.lstrip(self._padding):
                self._is_in_frame, self._padding = True, b""
                parts.append(self._frame.decompress(piece))
                piece = b""
                if self._frame.eof:
                    piece = self._frame.unused_data
                    self._frame = self._compression.begin()
                    self._is_in_frame, self._padding = False, self._compression.padding
        except self._compression.error as error:
            raise FilesError(
                f"`{self._file.url}` is no {self._compression.name} data, or is damaged",
                hint="its name says how it is read: rename or replace it",
            ) from error
        return b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
