"""A Lease that did not bring its payload: it is fetched, and what the operator says of the Lease meanwhile waits."""

import asyncio
from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from cortex.domain.batch import OFFSET_BYTES
from cortex.domain.frame import Frame, Message
from cortex.station.payloads import StoredPayloads, Unfetched

_NEVER_WAIT: Final = ("beat", "end", "payload", "piece", "rows_wanted")
"""Of the operator's frames to the station itself: they are not about the Lease, or bring its payload after all."""


@dataclass(slots=True, kw_only=True)
class Referral:
    """See the module.

    Where the payload cannot be fetched, the operator is asked to send the Lease with it.
    """

    begin: Callable[[Frame, bytes, bytes], None]  # the Lease, its index and its payload
    tell: Callable[[Iterable[Message]], None]
    payloads: StoredPayloads = field(default_factory=StoredPayloads)
    _token: int | None = None  # of the Lease that is waited for
    _waiting: deque[Frame] = field(default_factory=deque)
    _fetching: set[asyncio.Task[None]] = field(default_factory=set)

    def holds(self, frame: Frame) -> bool:
        """Tell whether a frame of the operator's has to wait, and keep it if so."""
        if self._token is None or frame.get("peer") == "supervisor" or frame["type"] == "lease":
            return False
        if "peer" not in frame and frame["type"] in _NEVER_WAIT:
            return False
        self._waiting.append(frame)
        return True

    def fetch(self, lease: Frame, index: bytes) -> None:
        """Fetch the payload of a Lease, and begin with it then."""
        self.forget()
        self._token = lease["token"]
        task = asyncio.get_running_loop().create_task(self._fetch(lease, index))
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    def over(self) -> list[Frame]:
        """A Lease has begun: give the frames that have waited for that."""
        waiting = list(self._waiting)
        self.forget()
        return waiting

    def forget(self) -> None:
        """The Lease is not the Worker's any more: the operator is gone, or the Worker has come anew."""
        self._token = None
        self._waiting.clear()

    async def _fetch(self, lease: Frame, index: bytes) -> None:
        count = lease["end"] - lease["first"]
        numbers = array("I", index)
        offsets, checksums = numbers[: count + 1], numbers[count + 1 :]
        assert numbers.itemsize == OFFSET_BYTES  # noqa: S101 - on every machine that we know
        try:
            items = await asyncio.to_thread(self.payloads.read, lease["payload"], offsets, checksums)
        except Unfetched as why:
            if self._token == lease["token"]:
                self.tell([({"type": "unfetched", "token": lease["token"], "why": str(why)}, None)])
            return
        if self._token == lease["token"]:
            self.begin(lease, index, items)
