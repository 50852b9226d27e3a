"""Reading the body of a request, within limits."""

from typing import Final

from starlette.requests import Request

from cortex.domain.errors import TooLarge
from cortex.operator.submission import MAX_REQUEST_BYTES

_DROPPED_BYTES: Final = 64 * 1024 * 1024
"""How much of a body that is too large is still read, so that every client gets to see the answer."""


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
