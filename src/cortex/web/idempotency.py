"""Submissions that may be sent again: those with an `Idempotency-Key`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from cortex.domain.submission_key import SubmissionKey
from cortex.web.connections import while_connected


def submission_key(request: Request, body: bytes) -> SubmissionKey | None:
    """Give the key of a request, if it has one. Raises InvalidRequest."""
    names = request.headers.getlist("idempotency-key")
    # No key has a space, so several headers are refused.
    return SubmissionKey.of(", ".join(names), body) if names else None


@dataclass(slots=True)
class Turns:
    """Handles requests with the same key one after the other, so that the later ones find what the first has made."""

    _taken: dict[tuple[str, str], asyncio.Event] = field(default_factory=dict)

    @asynccontextmanager
    async def turn(self, request: Request, api_name: str, key: SubmissionKey | None) -> AsyncIterator[None]:
        """Wait for the others with this key, and let nobody else go on; who has no key need not wait.

        Raises ClientDisconnect where the client leaves before it is its turn.
        """
        if key is None:
            yield
            return
        name = (api_name, key.name)
        while (taken := self._taken.get(name)) is not None:
            await while_connected(request, taken.wait())
        self._taken[name] = is_over = asyncio.Event()
        try:
            yield
        finally:
            del self._taken[name]
            is_over.set()
