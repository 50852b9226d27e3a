"""Send bytes to an operator: a project as a form, files piece by piece, on from where they are."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from secrets import token_hex
from typing import IO, BinaryIO, Final
from urllib.parse import quote

from urllib3.fields import RequestField

from cortex.answers import UploadState
from cortex.clients.calls import pause
from cortex.clients.local_files import Upload
from cortex.clients.transport import Transport
from cortex.domain.errors import Conflict, InvalidRequest, InvalidSubmission, OperatorUnreachable, UploadOutOfStep

_UPLOADED_BYTES: Final = 8 * 1024 * 1024  # in one request: what is lost with a connection, at most
_READ_BYTES: Final = 256 * 1024
_PIECE_BYTES: Final = 64 * 1024
_PAUSES_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)

Advance = Callable[[int], None]
"""Is told how many more bytes the operator has."""

SendFile = Callable[[str, str, BinaryIO, int, Advance], None]
"""Sends a file: the id of its upload, its name there, where to read it, its size, whom to tell."""


def send_files(send: SendFile, upload: Upload, advance: Advance) -> None:
    """Send what the operator does not have yet of these files. Raises InvalidSubmission for one that is unreadable."""
    for file in upload.files:
        try:
            with file.path.open("rb") as opened:
                send(upload.id, file.name, opened, file.size_bytes, advance)
        except OSError as error:
            raise InvalidSubmission(f"`{file.path}` cannot be read: {error.strerror}") from error


def send_file(
    transport: Transport, upload_id: str, name: str, file: BinaryIO, size: int, progress: Advance = lambda _: None
) -> None:
    """Send a file of this size, from where an earlier attempt has come to.

    After a lost connection it goes on, by another one; where that does not help for a minute, OperatorUnreachable is
    raised, and a later call goes on.
    """
    path = f"/_cortex/uploads/{quote(upload_id, safe='')}/{quote(name)}"
    pauses = iter(_PAUSES_SECONDS)
    known = -1
    while known < size:
        try:
            for offset in _send_rest(transport, path, file, size):
                if offset > known:
                    pauses = iter(_PAUSES_SECONDS)
                progress(offset - max(known, 0))
                known = offset
        except (OperatorUnreachable, UploadOutOfStep):
            seconds = next(pauses, None)
            if seconds is None:
                raise
            pause(seconds)


def form(parts: Iterable[tuple[str, str, str, IO[bytes]]]) -> tuple[dict[str, str], Iterator[bytes]]:
    """Write files as a form; give its headers, and its body, which is read as it is sent."""
    boundary = token_hex(16)
    pieces: list[Iterable[bytes]] = []
    size_bytes = 0
    for name, file_name, content_type, file in parts:
        field = RequestField(name, b"", file_name)
        field.make_multipart(content_type=content_type)
        head = f"--{boundary}\r\n{field.render_headers()}".encode()
        size_bytes += len(head) + file.seek(0, os.SEEK_END) + len(b"\r\n")
        file.seek(0)
        pieces += [[head], iter(partial(file.read, _READ_BYTES), b""), [b"\r\n"]]
    end = f"--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(size_bytes + len(end)),
    }
    return headers, chain(*pieces, [end])


def _send_rest(transport: Transport, path: str, file: BinaryIO, size: int) -> Iterator[int]:
    """Send what the operator lacks; yield how much it has, whenever that is known."""
    offset = transport.ask(UploadState, "GET", path)["offset"]
    if offset > size:
        raise Conflict(f"the operator has {offset} bytes of a file of {size}: it has changed meanwhile")
    if size == 0:
        _append(transport, path, file, 0, 0)
    yield offset
    while offset < size:
        length = min(size - offset, _UPLOADED_BYTES)
        _append(transport, path, file, offset, length)
        offset += length
        yield offset


def _append(transport: Transport, path: str, file: BinaryIO, offset: int, length: int) -> None:
    file.seek(offset)
    headers = {"Upload-Offset": str(offset), "Content-Length": str(length)}
    transport.tell("PATCH", path, body=_read_exactly(file, length), headers=headers)


def _read_exactly(file: BinaryIO, length: int) -> Iterator[bytes]:
    """Read in pieces that a slow line can take before a timeout. Raises InvalidRequest at an early end."""
    while length:
        piece = file.read(min(length, _PIECE_BYTES))
        if not piece:
            raise InvalidRequest("a file has become shorter while it was uploaded", hint="run the command again")
        length -= len(piece)
        yield piece
