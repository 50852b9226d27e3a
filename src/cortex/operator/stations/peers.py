"""Who speaks through a station: a Worker and its supervisor, each as if it were connected itself."""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cortex.domain.frame import Frame, Message
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket
from cortex.engines.engine import Elsewhere
from cortex.operator.stations.cargo import MOST_LEASE_BYTES, Cargo, Refer, is_with_its_owner, pack_apart
from cortex.operator.stations.storage import Storage
from cortex.storage.pages import write_hook_started

Send = Callable[[Frame, bytes | None], None]
"""Sends a frame to the station, with what follows it; it is lost if the station is gone."""

Read = Callable[[Callable[[], Sequence[Message]], Callable[[Sequence[Message]], None]], None]
"""Has another thread read something, and hands it on in this one; if that fails, the station is cut off."""


@dataclass(eq=False, slots=True, kw_only=True)
class SupervisorElsewhere:
    """The connection of a supervisor."""

    to_station: Send

    @property
    def elsewhere(self) -> Elsewhere | None:
        """See Connection. It tells what it does, and nobody looks at its files."""
        return None

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """See Connection."""
        self.to_station({"peer": "supervisor", **frame}, data)


@dataclass(eq=False, slots=True, kw_only=True)
class WorkerElsewhere:
    """The connection of a Worker. What is sent behind a Lease that is being read waits until that is sent."""

    to_station: Send
    ticket: Ticket
    cargo: Cargo
    read: Read
    storage: Storage | None = None
    _is_over: bool = False
    _is_reading: bool = False
    _waiting: deque[Callable[[], None]] = field(default_factory=deque)
    _referred: Frame | None = None  # the Lease that did not carry its payload, if it is the last one
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _settling: dict[int, Callable[[], None]] = field(default_factory=dict)

    @property
    def elsewhere(self) -> Elsewhere | None:
        """See Connection."""
        return self

    @property
    def most_lease_bytes(self) -> int:
        """See Elsewhere."""
        return MOST_LEASE_BYTES

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """See Connection. A Lease goes with all that it is about."""
        self._in_order(partial(self._send, frame, data))

    def settle(self, token: int, limit: int, then: Callable[[], None]) -> None:
        """See Elsewhere."""
        number = next(self._numbers)
        self._settling[number] = then
        self._in_order(partial(self.to_station, {"type": "limit", "id": number, "token": token, "limit": limit}, None))

    def page_seen(self, number: int) -> None:
        """The station has answered: the page here shows what the Worker has begun."""
        then = self._settling.pop(number, None)
        if then is not None:
            then()

    def unfetched(self, token: int, why: str) -> None:
        """The station cannot read what a Lease is about where it was told: so it gets it from here."""
        lease = self._referred
        if lease is not None and lease["token"] == token and self.storage is not None:
            self.storage.unfetched(self.ticket, why)
            self._in_order(partial(self._send_lease, lease, None))

    def close(self) -> None:
        """The Worker speaks here no more: a Lease that is still being read is not its own any more."""
        self._is_over = True
        self._waiting.clear()

    def _in_order(self, send: Callable[[], None]) -> None:
        if self._is_reading:
            self._waiting.append(send)
        else:
            send()

    def _send(self, frame: Frame, data: bytes | None) -> None:
        if frame["type"] == "lease":
            self._send_lease(frame, None if self.storage is None else self.storage.refer(self.ticket))
            return
        if frame["type"] == "run_hook":  # whoever loses the Worker after this knows that it may have begun
            write_hook_started(self._folder, self.ticket.worker)
        self._tell(frame, data)

    def _send_lease(self, lease: Frame, refer: Refer | None) -> None:
        referring = None if refer is None else self.cargo.refer(self._folder, lease, refer)
        if referring is not None:
            self._tell(*referring)
            self._referred = lease
        elif is_with_its_owner(self._folder, lease):
            self._is_reading = True
            self.read(partial(pack_apart, self._folder, lease), self._lease_was_read)
        else:
            self._tell_lease(self.cargo.pack(self._folder, lease))

    def _lease_was_read(self, messages: Sequence[Message]) -> None:
        if self._is_over:
            return
        self._is_reading = False
        self._tell_lease(messages)
        while self._waiting and not self._is_reading:
            self._waiting.popleft()()

    def _tell_lease(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._tell(*message)
        self._referred = None  # not before: what could not be read is tried again

    @property
    def _folder(self) -> JobFolder:
        return JobFolder(Path(self.ticket.folder))

    def _tell(self, frame: Frame, data: bytes | None) -> None:
        if frame["type"] == "payload":
            self.to_station(frame, data)
        else:
            self.to_station({"peer": "worker", **frame}, data)
