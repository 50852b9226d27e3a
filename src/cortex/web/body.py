"""Reading the body of a request, within limits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.errors import Overloaded, TooLarge

_DROPPED_BYTES: Final = 64 * 1024 * 1024
"""How much of a body that is too large is still read, so that every client gets to see the answer."""

_DROPPING_SECONDS: Final = 60.0


@dataclass(slots=True)
class Intake:
    """Bounds how much memory the bodies of requests have together."""

    room_bytes: int = 256 * 1024 * 1024
    hint: str = "submit the dataset in several jobs"
    """What to do about a body that is too large."""

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body of a request as `take` does, and hold room for it until it is not needed any more."""
        body = await self.take(request.receive)
        try:
            yield body
        finally:
            self.give_back(body)

    async def take(self, receive: Receive) -> bytes:
        """Read a body of less than `MAX_REQUEST_BYTES`, and hold room for it until it is given back.

        Raises TooLarge, or Overloaded where there is no room, after having read (and dropped) the rest; and
        ClientDisconnect.
        """
        chunks: list[bytes] = []
        try:
            self._check(await self._read(receive, chunks), chunks)
        except BaseException:
            self.room_bytes += _size(chunks)
            raise
        return b"".join(chunks)

    async def _read(self, receive: Receive, chunks: list[bytes]) -> int:
        """Add what comes to the chunks, as long as there is room for it; give the size of all that came."""
        size, held, has_more = 0, 0, True
        while has_more and size <= _DROPPED_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            has_more = message.get("more_body", False)
            size += len(chunk)
            if size < MAX_REQUEST_BYTES and held + len(chunk) == size <= held + self.room_bytes:
                chunks.append(chunk)
                held += len(chunk)
                self.room_bytes -= len(chunk)
        return size

    def _check(self, size: int, chunks: list[bytes]) -> None:
        if size >= MAX_REQUEST_BYTES:
            raise TooLarge(
                f"the request has {size} bytes or more; it must have less than {MAX_REQUEST_BYTES} (10 MiB)",
                hint=self.hint,
            )
        if _size(chunks) < size:
            raise Overloaded("too many large requests came at once", hint="send it again in a moment")

    def give_back(self, body: bytes) -> None:
        """Let go of the room of a body that was taken."""
        self.room_bytes += len(body)


def _size(chunks: Iterable[bytes]) -> int:
    return sum(map(len, chunks))


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
