"""Reading the body of a request, within limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.errors import Overloaded, TooLarge

_DROPPED_BYTES: Final = 64 * 1024 * 1024
"""How much of a body that is too large is still read, so that every client gets to see the answer."""

_DROPPING_SECONDS: Final = 60.0


@dataclass(slots=True)
class Intake:
    """Bounds how much memory the bodies of requests have together."""

    room_bytes: int = 256 * 1024 * 1024

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body of less than `MAX_REQUEST_BYTES`, and hold room for it until it is not needed any more.

        Raises TooLarge, or Overloaded where there is no room, after having read (and dropped) the rest.
        """
        chunks: list[bytes] = []
        size, held = 0, 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size < MAX_REQUEST_BYTES and held + len(chunk) == size <= held + self.room_bytes:
                    chunks.append(chunk)
                    held += len(chunk)
                    self.room_bytes -= len(chunk)
                elif size > _DROPPED_BYTES:
                    break
            if size >= MAX_REQUEST_BYTES:
                raise TooLarge(
                    f"the request has {size} bytes or more; it must have less than {MAX_REQUEST_BYTES} (10 MiB)",
                    hint="submit the dataset in several jobs",
                )
            if held < size:
                raise Overloaded("too many large requests came at once", hint="send it again in a moment")
            yield b"".join(chunks)
        finally:
            self.room_bytes += held


async def drop_body(rest: AsyncIterator[bytes]) -> None:
    """Read the rest of a request that is refused, up to a limit, so that every client gets to see the answer."""
    size = 0
    with suppress(ClientDisconnect, TimeoutError):
        async with asyncio.timeout(
            _DROPPING_SECONDS
        ):  # for a stranger must not hold a connection for as long as he likes
            async for data in rest:
                size += len(data)
                if size > _DROPPED_BYTES:
                    return
