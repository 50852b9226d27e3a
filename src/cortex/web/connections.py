"""Connections that cannot use up what the operator's Jobs need: they are bounded, and those that ask nothing end."""

import asyncio
import resource
from typing import Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

_PATIENCE_SECONDS: Final = 30.0


class BoundedConnection(H11Protocol):
    """One connection of a client.

    The server closes one that is idle after an answer; this closes one that has never asked, or does not come to the
    end of what it asks. Beyond half of the files that this process may open, new connections are cut off: the other
    half is for Jobs.
    """

    _watch: asyncio.TimerHandle | None = None
    _seen: object = None  # the request, if any, that was the latest one when it was last looked at

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > most_connections():
            transport.abort()
        else:
            self._watch = self.loop.call_later(_PATIENCE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        cycle = cast("Any", self.cycle)  # None before the first request
        if (cycle is None or cycle.response_complete) and cycle is self._seen:
            self.transport.close()
            return
        self._seen = cycle
        self._watch = self.loop.call_later(_PATIENCE_SECONDS, self._look)


def most_connections() -> float:
    """Give how many connections there may be."""
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if most_files == resource.RLIM_INFINITY else most_files // 2
