"""Opening a file for its text, compressed or not."""

import gzip
import io
import zlib
from typing import BinaryIO, Final, cast

import zstandard

from cortex.domain.errors import FilesError
from cortex.files.files import FileInfo, Files

# A file of which nothing is known may expand a piece 32768-fold; so the pieces are small, and memory is not used up.
_ZSTD_PIECE_BYTES: Final = 2**9
_BUFFER_BYTES: Final = 2**18


def open_text(files: Files, file: FileInfo) -> BinaryIO:
    """Open a file that was listed; one that is named `.gz` or `.zst` is decompressed while it is read.

    Several members or frames, one after another, are one text, as all tools have it. Raises what `Files.open` does,
    and FilesError where the compressed data is damaged or ends too early.
    """
    source = files.open(file)
    if file.url.endswith(".gz"):
        return cast(BinaryIO, io.BufferedReader(_GzipText(file, source), _BUFFER_BYTES))
    if file.url.endswith(".zst"):
        return cast(BinaryIO, io.BufferedReader(_ZstdText(file, source), _BUFFER_BYTES))
    return source


class _GzipText(io.RawIOBase):
    def __init__(self, file: FileInfo, source: BinaryIO) -> None:
        self._file = file
        self._source = source
        self._gzip = gzip.GzipFile(fileobj=source, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            return self._gzip.readinto(buffer)
        except EOFError as error:
            raise _truncated(self._file) from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(self._file, "gzip") from error

    def close(self) -> None:
        if not self.closed:
            self._gzip.close()
            self._source.close()
        super().close()


class _ZstdText(io.RawIOBase):
    # The library's own reader gives a file that ends in the middle of a frame as if it were whole.
    def __init__(self, file: FileInfo, source: BinaryIO) -> None:
        self._file = file
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_in_frame = False
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._text:
            piece = self._source.read(_ZSTD_PIECE_BYTES)
            if not piece:
                if self._is_in_frame:
                    raise _truncated(self._file)
                return 0
            self._text = memoryview(self._decompress(piece))
        count = min(len(buffer), len(self._text))
        buffer[:count] = self._text[:count]
        self._text = self._text[count:]
        return count

    def _decompress(self, piece: bytes) -> bytes:
        parts: list[bytes] = []
        try:
            while piece:
                self._is_in_frame = True
                parts.append(self._frame.decompress(piece))
                piece = b""
                if self._frame.eof:
                    piece = self._frame.unused_data
                    self._frame = zstandard.ZstdDecompressor().decompressobj()
                    self._is_in_frame = False
        except zstandard.ZstdError as error:
            raise _damaged(self._file, "zstd") from error
        return b"".join(parts)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def is_compressed(url: str) -> bool:
    """Tell whether a file of this name is decompressed while it is read."""
    return url.endswith((".gz", ".zst"))


def _damaged(file: FileInfo, kind: str) -> FilesError:
    return FilesError(
        f"`{file.url}` is no {kind} data, or is damaged", hint="its name says how it is read: rename or replace it"
    )


def _truncated(file: FileInfo) -> FilesError:
    return FilesError(f"`{file.url}` ends in the middle of its compressed data", hint="upload it again, whole")
