"""Reading the body of a request, within limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from starlette.requests import ClientDisconnect, Request

from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.errors import TooLarge

_DROPPED_BYTES: Final = 64 * 1024 * 1024
"""How much of a body that is too large is still read, so that every client gets to see the answer."""

_DROPPING_SECONDS: Final = 60.0


async def read_body(request: Request) -> bytes:
    """Read a body of less than `MAX_REQUEST_BYTES`. Raises TooLarge, after having read (and dropped) the rest."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size < MAX_REQUEST_BYTES:
            chunks.append(chunk)
        elif size > _DROPPED_BYTES:
            break
    if size >= MAX_REQUEST_BYTES:
        raise TooLarge(
            f"the request has {size} bytes or more; it must have less than {MAX_REQUEST_BYTES} (10 MiB)",
            hint="submit the dataset in several jobs",
        )
    return b"".join(chunks)


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
