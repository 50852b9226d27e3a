"""The door: where stations come in, over TCP. Anybody may knock, so each shows its ticket first.

Who has none that this operator, or an earlier one, has signed is cut off, as is who keeps silent. Of those who are in,
only what the ticket says is believed: whose Worker it is, and which files are its own.
"""

import asyncio
import logging
import socket
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, cast

import cortex
from cortex.domain.frame import Frame, FrameError, FrameReader, Message, encode
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket, is_signed
from cortex.engines.station_side import StationSide
from cortex.operator.channel import WorkerSide
from cortex.operator.run.taking_in import Written
from cortex.operator.stations.backlog import Backlog
from cortex.operator.stations.bundles import Bundles
from cortex.operator.stations.cargo import Cargo
from cortex.operator.stations.intake import Intake
from cortex.operator.stations.peers import SupervisorElsewhere, WorkerElsewhere
from cortex.operator.stations.storage import Storage
from cortex.operator.stations.words import checked, shown

logger = logging.getLogger(__name__)

_HELLO_SECONDS: Final = 10.0
"""How long a station has to show its ticket."""

_HELLO_BYTES: Final = 4 * 1024 * 1024
"""How much it may say before."""

_LONGEST_REASON: Final = 1000

_MOST_READS: Final = 16
"""So many pieces of bundles may a station wait for at once."""

_MOST_UNREAD_BYTES: Final = 64 * 1024 * 1024
"""Who has not read so much of what it was sent is sent nothing more that it asks for."""

_MOST_AWAY: Final = 10_000
"""Of so many is it kept what has come of the log: of those before, lines may come twice."""

_READERS: Final = 8
"""So many threads read users' files, of which some may lie on a disk that does not answer."""

_OF_ROWS: Final = frozenset({"rows", "rows_at"})

_RETRY_SECONDS: Final = 0.5
"""So often it is tried again to write what a disk without room has not taken."""

_WHAT_IS_WRONG: Final = (FrameError, KeyError, TypeError, ValueError, OverflowError)
"""What the words of a peer that does not keep to the protocol raise."""


@dataclass(slots=True, kw_only=True)
class Door:
    """What all connections share: who is in, and who hears them."""

    secret: str
    workers: WorkerSide
    stations: StationSide
    bundles: Bundles
    storage: Storage | None = None  # None: everything passes through here
    cargo: Cargo = field(default_factory=Cargo)
    now_ns: Callable[[], int] = time.time_ns
    inside: dict[str, "StationConnection"] = field(default_factory=dict)  # by Worker
    of_folder: Counter[str] = field(default_factory=Counter)  # how many of them there are of each Job
    readers: Executor = field(default_factory=partial(ThreadPoolExecutor, _READERS, "reader"))  # and of nothing else
    away: dict[str, Intake] = field(default_factory=dict)  # of Workers whose stations may come back, the latest last

    def enter(self, station: "StationConnection") -> None:
        """Let a station in; if it is in already, over a connection that is dead, that one is closed before."""
        worker = station.ticket.worker
        if worker in self.inside:
            self.inside[worker].leave()
        self.inside[worker] = station
        self.of_folder[station.ticket.folder] += 1

    def leave(self, station: "StationConnection") -> None:
        """Take notice that a station is gone."""
        folder = station.ticket.folder
        del self.inside[station.ticket.worker]
        self.of_folder[folder] -= 1
        if not self.of_folder[folder]:
            del self.of_folder[folder]
            self.cargo.forget(JobFolder(Path(folder)))

    def expect(self, worker: str, intake: Intake) -> None:
        """Keep for a while what is known of a Worker whose station has not been told to end."""
        self.away[worker] = intake
        if len(self.away) > _MOST_AWAY:
            del self.away[next(iter(self.away))]


class StationConnection(asyncio.Protocol):
    """One connection of a station. It is the StationLink of its engine."""

    ticket: Ticket

    def __init__(self, door: Door) -> None:
        self._door = door
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unknown_bytes = 0  # before it has shown its ticket
        self._intake: Intake | None = None  # while it is in
        self._worker: WorkerElsewhere | None = None
        self._supervisor: SupervisorElsewhere | None = None
        self._is_over = False  # it was told to end: nothing that it says is of interest
        self._backlog: Backlog | None = None  # of what waits for rows that come another way
        self._held: deque[Frame] = deque()  # which wait for the disk to have room
        self._retry: asyncio.TimerHandle | None = None
        self._reads: set[asyncio.Task[None]] = set()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # it is that of the loop: uvloop's has no such base
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a frame is small, and somebody waits for it
        self._deadline = asyncio.get_running_loop().call_later(_HELLO_SECONDS, self.close)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. A station that does not keep to the protocol is cut off; the operator goes on."""
        try:
            if self._intake is None:
                self._unknown_bytes += len(data)
                if self._unknown_bytes > _HELLO_BYTES:
                    raise FrameError(f"{self._unknown_bytes} bytes before it has shown its ticket")
            for frame in self._reader.feed(data):
                if self._backlog is None:
                    self._take(frame)
                else:
                    self._backlog.take(frame)
                if frame["type"] in _OF_ROWS and not self._is_over:
                    self._are_alive()  # their beats come behind rows, of which there may be many
        except _WHAT_IS_WRONG:
            self._cut_off()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol. What it has said of rows that are still on their way is heard before."""
        self._transport = None
        if self._backlog is None:
            self.leave()
        else:
            self._backlog.lost(self.leave)

    # StationLink

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """See StationLink."""
        if self._transport is not None:
            self._is_over |= frame["type"] == "end" and "peer" not in frame
            self._transport.write(encode(frame, data))

    def close(self) -> None:
        """See StationLink."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Tell everybody that it is gone. May be repeated."""
        self.close()
        self._transport = None
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.give_up()
        for timer in (self._deadline, self._retry):
            if timer is not None:
                timer.cancel()
        for task in self._reads:
            task.cancel()
        if self._intake is None:
            return
        intake, self._intake = self._intake, None
        intake.close()
        self._door.leave(self)
        if not self._is_over:
            self._door.expect(self.ticket.worker, intake)
        self._door.stations.station_lost(self.ticket.worker)
        self._peer_closed("supervisor")
        self._peer_closed("worker")

    # What it says

    def _cut_off(self) -> None:
        logger.exception("a station is cut off")
        self.close()

    def _deliver(self, frame: Frame) -> None:
        """Hear a frame that may have waited."""
        try:
            self._take(frame)
        except _WHAT_IS_WRONG:
            self._cut_off()

    def _take(self, frame: Frame) -> None:
        """Hear a frame, or hold it until the disk has taken what comes before it."""
        if self._held:
            self._held.append(frame)
            return
        try:
            self._hear(frame)
        except OSError as error:
            logger.warning("what a station sends cannot be written, and it has to wait: %s", error)
            self._held.append(frame)
            if self._transport is not None:
                self._transport.pause_reading()
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        """Hear what is held, as far as the disk has room now; it is we who do not listen: nobody is silent."""
        try:
            while self._held:
                self._hear(self._held[0])
                self._held.popleft()
        except OSError:
            self._are_alive()
            self.send({"type": "beat", "n": 0})  # the answer to none of its own
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._try_again)
        except _WHAT_IS_WRONG:
            self._cut_off()
        else:
            if self._transport is not None:
                self._transport.resume_reading()

    def _are_alive(self) -> None:
        """Nobody is silent, although nothing of station and supervisor can be heard."""
        self._door.stations.station_heard(self.ticket.worker)
        self._supervisor_says({"type": "beat", "worker": self.ticket.worker})

    def _hear(self, frame: Frame) -> None:
        if self._is_over:
            return
        if self._intake is None:
            self._introduce(frame)
        elif frame["type"] == "closed":
            if frame["peer"] == "worker":
                self._intake.worker_went()
            self._peer_closed(frame["peer"])
        elif frame.get("peer") == "worker":
            self._worker_says(checked(frame, serves=self.ticket.serves))
        elif frame.get("peer") == "supervisor":
            said = checked(frame, serves=self.ticket.serves)
            self._supervisor_says({**said, "worker": self.ticket.worker})
        elif not self._intake.take(frame):
            self._station_says(frame)

    def _introduce(self, hello: Frame) -> None:
        if self._transport is None:
            return
        text, signature = hello.get("ticket"), hello.get("signature")
        if hello["type"] != "hello" or not isinstance(text, str) or not isinstance(signature, str):
            raise FrameError("it shows no ticket")
        if not is_signed(self._door.secret, text, signature):
            raise FrameError("its ticket was not signed here")
        self.ticket = Ticket.from_json(text)
        if self._deadline is not None:
            self._deadline.cancel()
        worker = self.ticket.worker
        if hello["version"] != cortex.__version__:
            why = f"{hello['node']} has cortex {hello['version']}, and the operator {cortex.__version__}"
            self.send({"type": "end", "why": why})
            self._door.stations.station_failed(worker, f"could not start: {why}: install the same version on both")
            return
        intake = Intake(self.ticket, now_ns=self._door.now_ns)
        if not intake.begin(_identity(hello)):
            self.send({"type": "end", "why": "another station has begun with this worker"})
            return
        self._door.enter(self)
        self._intake = self._door.away.pop(worker, intake)
        if (storage := self._door.storage) is not None and not self.ticket.serves:
            storage.begin(self.ticket)
            self._backlog = storage.backlog(self.ticket, deliver=self._deliver, send=self.send)
        self._door.stations.station_connected(worker, self)

    def _peer_closed(self, peer: str) -> None:
        if peer == "worker" and self._worker is not None:
            connection, self._worker = self._worker, None
            connection.close()
            self._door.workers.worker_disconnected(self.ticket.worker, connection)
        elif peer == "supervisor" and self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            self._door.stations.supervisor_lost(supervisor)

    def _worker_says(self, frame: Frame) -> None:
        worker = self.ticket.worker
        if frame["type"] == "hello":
            self._must_read()
            self._peer_closed("worker")
            if self._intake is not None:
                self._intake.worker_came()
            self._worker = WorkerElsewhere(
                to_station=self.send,
                ticket=self.ticket,
                cargo=self._door.cargo,
                read=self._read_apart,
                storage=self._door.storage,
            )
            self._door.workers.worker_connected(worker, self._worker, frame)
        elif self._worker is not None:
            if frame["type"] == "lease_ended":
                self._must_read()  # that Lease, before it gets the next one
            self._door.workers.worker_says(worker, frame)

    def _supervisor_says(self, frame: Frame) -> None:
        if frame["type"] == "hello":
            self._peer_closed("supervisor")
            self._supervisor = SupervisorElsewhere(to_station=self.send)
            self._door.stations.supervisor_connected(self._supervisor, frame)
        elif self._supervisor is not None:
            self._door.stations.supervisor_says(frame)

    def _station_says(self, frame: Frame) -> None:
        kind, worker = frame["type"], self.ticket.worker
        if kind == "beat":
            self._door.stations.station_heard(worker)
            self.send({"type": kind, "n": int(frame["n"])})
        elif kind == "written":
            Written.from_frame(frame)  # or it would not be known from what it is that it fails
            if not self.ticket.serves:
                self._door.workers.worker_says(worker, frame)
        elif kind == "page_seen":
            if self._worker is not None:
                self._worker.page_seen(frame["id"])
        elif kind == "no_storage" and self._door.storage is not None:
            self._door.storage.objects.complain(self.ticket.job_id, str(frame["why"])[:_LONGEST_REASON])
        elif kind == "unfetched":
            if self._worker is not None:
                self._worker.unfetched(frame["token"], str(frame["why"])[:_LONGEST_REASON])
        elif kind == "read":
            self._read(frame)
        elif kind == "failed":
            self._door.stations.station_failed(worker, shown(str(frame["error"])))
        else:
            raise FrameError(f"a station says `{kind}`")

    def _read_apart(self, read: Callable[[], Sequence[Message]], then: Callable[[Sequence[Message]], None]) -> None:
        """Have a thread read what may take long; it has come too late for a station that has left meanwhile."""

        def done(reading: "asyncio.Future[Sequence[Message]]") -> None:
            try:
                then(reading.result())
            except Exception:
                self._cut_off()

        asyncio.get_running_loop().run_in_executor(self._door.readers, read).add_done_callback(done)

    def _must_read(self) -> None:
        """Raise FrameError where a station has things sent to it, and reads nothing: our memory is not its own."""
        if self._transport is not None and self._transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
            raise FrameError("it does not read what it is sent")

    def _read(self, asked: Frame) -> None:
        self._must_read()
        if len(self._reads) == _MOST_READS:
            raise FrameError(f"more than {_MOST_READS} pieces are wanted at once")
        if not isinstance(asked["bundle"], str) or type(asked["offset"]) is not int or asked["offset"] < 0:
            raise FrameError("no piece of a bundle")
        task = asyncio.get_running_loop().create_task(self._answer(asked))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _answer(self, asked: Frame) -> None:
        self.send(*await self._door.bundles.read(self.ticket, asked))


def _identity(hello: Frame) -> int:
    """Number a station: another one of the same Worker has another number."""
    who = f"{hello['node']} {hello['pid']}".encode()
    return zlib.crc32(who) << 32 | zlib.adler32(who) | 1


async def open_door(
    listening: socket.socket,
    *,
    data: Path,
    secret: str,
    workers: WorkerSide,
    stations: StationSide,
    storage: Storage | None = None,
) -> asyncio.Server:
    """Let stations in at a socket that listens; `data` is the operator's directory."""
    door = Door(secret=secret, workers=workers, stations=stations, bundles=Bundles(data=data), storage=storage)
    return await asyncio.get_running_loop().create_server(lambda: StationConnection(door), sock=listening)
