"""Forms: their fields, and the files that are sent in them."""

import io
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from email.utils import collapse_rfc2231_value
from typing import Any, BinaryIO, Final

_MOST_PARTS: Final = 1000
_LINE_END: Final = b"\r\n"


class MultiMapping(dict[str, Any]):
    """Names and values, of which one name may have several: it gives the last, and all on request."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._pairs = list(pairs)
        super().__init__(self._pairs)

    def getlist(self, name: str) -> list[Any]:
        """Give all values of a name, in the order in which they came."""
        return [value for other, value in self._pairs if other == name]

    def multi_items(self) -> list[tuple[str, Any]]:
        """Give every name with every value, in the order in which they came."""
        return list(self._pairs)


class UploadedFile:
    """A file that was sent in a form."""

    def __init__(self, filename: str, content_type: str, data: bytes) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = len(data)
        self.file: BinaryIO = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        """Give the next so many bytes, or all that are left."""
        return self.file.read(size)

    def seek(self, offset: int) -> None:
        """Go on at this place."""
        self.file.seek(offset)

    def __repr__(self) -> str:
        """Name it."""
        return f"UploadedFile(filename={self.filename!r}, content_type={self.content_type!r}, size={self.size})"


def read_multipart(body: bytes, boundary: str | None) -> Iterator[tuple[str, Any]]:
    """Give the fields of a form: text, or the file where there is a name of one. Raises ValueError for what is none."""
    if boundary is None:
        raise ValueError("it names no boundary")
    # A boundary begins a line; so does one with which the body begins.
    pieces = (_LINE_END + body).split(_LINE_END + b"--" + boundary.encode("latin-1"), _MOST_PARTS)
    if len(pieces) > _MOST_PARTS:
        raise ValueError(f"it has more than {_MOST_PARTS} fields")
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            return
        padding, found, part = piece.partition(_LINE_END)
        if not found or padding.strip(b" \t"):
            raise ValueError("a boundary is not alone in its line")
        yield _read_part(part)
    raise ValueError("its last boundary is missing")


def _read_part(part: bytes) -> tuple[str, Any]:
    head, found, data = part.partition(_LINE_END * 2)
    if not found:
        raise ValueError("a field has no end of its headers")
    headers = HeaderParser().parsestr(head.decode("utf-8", "replace"))
    name = headers.get_param("name", header="content-disposition")
    if name is None:
        raise ValueError("a field has no name")
    name = collapse_rfc2231_value(name)
    filename = headers.get_filename()
    if filename is None:
        return name, data.decode(headers.get_content_charset("utf-8"))
    return name, UploadedFile(filename, headers.get_content_type(), data)
