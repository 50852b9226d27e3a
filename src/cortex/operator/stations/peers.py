"""Who speaks through a station: a Worker and its supervisor, each as if it were connected itself."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket
from cortex.engines.engine import Elsewhere
from cortex.operator.stations.cargo import MOST_LEASE_BYTES, Cargo, Refer
from cortex.operator.stations.storage import Storage
from cortex.storage.pages import write_hook_started

Send = Callable[[Frame, bytes | None], None]
"""Sends a frame to the station, with what follows it; it is lost if the station is gone."""


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
    """The connection of a Worker."""

    to_station: Send
    ticket: Ticket
    cargo: Cargo
    storage: Storage | None = None
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
        if frame["type"] == "lease":
            self._send_lease(frame, None if self.storage is None else self.storage.refer(self.ticket))
            return
        if frame["type"] == "run_hook":  # whoever loses the Worker after this knows that it may have begun
            write_hook_started(self._folder, self.ticket.worker)
        self._send(frame, data)

    def settle(self, token: int, limit: int, then: Callable[[], None]) -> None:
        """See Elsewhere."""
        number = next(self._numbers)
        self._settling[number] = then
        self.to_station({"type": "limit", "id": number, "token": token, "limit": limit}, None)

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
            self._send_lease(lease, None)

    def _send_lease(self, lease: Frame, refer: Refer | None) -> None:
        referred = None
        for message, content in self.cargo.pack(self._folder, lease, refer):
            if message["type"] == "lease" and message["payload"]["kind"] == "stored":
                referred = lease
            self._send(message, content)
        self._referred = referred  # not before: what could not be read is tried again

    @property
    def _folder(self) -> JobFolder:
        return JobFolder(Path(self.ticket.folder))

    def _send(self, frame: Frame, data: bytes | None) -> None:
        if frame["type"] == "payload":
            self.to_station(frame, data)
        else:
            self.to_station({"peer": "worker", **frame}, data)
