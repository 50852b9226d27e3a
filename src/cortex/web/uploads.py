"""The routes of uploads: ask how far a file is, go on with it, remove all."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from cortex.domain.errors import CortexError, InvalidRequest, UploadOutOfStep
from cortex.storage.uploads import Uploads
from cortex.web.body import drop_body
from cortex.web.errors import show_error

OFFSET: Final = "Upload-Offset"
_OFFSET: Final = re.compile(r"[0-9]{1,18}")
_PIECE_BYTES: Final = 1024 * 1024
"""So much is collected before it is written: small pieces would each cost a turn in another thread."""


Held = TypeVar("Held")


@dataclass(frozen=True, slots=True)
class UploadRoutes:
    """See the module."""

    uploads: Uploads

    async def offset(self, request: Request) -> Response:
        """Tell how many bytes of a file are there, in a header and, to whom can see it, in the answer."""
        upload_id, name = request.path_params["upload_id"], request.path_params["name"]
        offset = await asyncio.to_thread(self.uploads.offset, upload_id, name)
        return JSONResponse({"offset": offset}, headers={OFFSET: str(offset)})

    async def append(self, request: Request) -> Response:
        """Append the body to a file; what came of one that breaks off is kept."""
        upload_id, name = request.path_params["upload_id"], request.path_params["name"]
        pieces = _pieces(request)
        try:
            async with _in_thread(self.uploads.append(upload_id, name, _offset(request))) as write:
                async for piece in pieces:
                    await asyncio.to_thread(write, piece)
        except CortexError as error:
            await drop_body(pieces)
            response = await show_error(request, error)
            if not isinstance(error, UploadOutOfStep):
                return response
        else:
            response = Response(status_code=204)
        response.headers[OFFSET] = str(await asyncio.to_thread(self.uploads.offset, upload_id, name))
        return response

    async def remove(self, request: Request) -> Response:
        """Remove an upload, if it is there."""
        await asyncio.to_thread(self.uploads.remove, request.path_params["upload_id"])
        return Response(status_code=204)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Give a body in pieces that are worth writing; before it tells that the client is gone, what had come."""
    waiting = bytearray()
    try:
        async for data in request.stream():
            waiting += data
            if len(waiting) >= _PIECE_BYTES:
                yield bytes(waiting)
                waiting.clear()
    except ClientDisconnect:
        yield bytes(waiting)
        raise
    yield bytes(waiting)


@asynccontextmanager
async def _in_thread(context: AbstractContextManager[Held]) -> AsyncIterator[Held]:
    """Enter and leave a context in a thread, because both may wait for the disk."""
    held = await asyncio.to_thread(context.__enter__)
    try:
        yield held
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def _offset(request: Request) -> int:
    text = request.headers.get(OFFSET, "")
    if _OFFSET.fullmatch(text) is None:
        raise InvalidRequest(f"the header {OFFSET} must be a number of bytes, not `{text}`")
    return int(text)
