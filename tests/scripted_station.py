"""A station that says what a test has it say, over a real connection, and the sides of the operator that hear it."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Final

import cortex
from cortex.domain.frame import Frame, FrameReader, encode
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket, sign
from cortex.engines.engine import Connection
from cortex.engines.station_side import StationLink
from cortex.operator.stations.door import open_door
from cortex.operator.stations.storage import Storage

SECRET: Final = "5ec7e7"
WORKER: Final = "67160ace060e3bfa-01234567"
PROJECT: Final = "p1"
TIMEOUT_SECONDS: Final = 30


def ticket_of(folder: JobFolder, worker: str = WORKER, **more: Any) -> Ticket:
    """Give the ticket of a Worker of a Job."""
    usual = {
        "job_id": folder.root.name,
        "project_id": PROJECT,
        "log_limit_bytes": 10_000,
        "log_rotates": False,
        "serves": False,
    }
    return Ticket(**{"worker": worker, "folder": str(folder.root), "log": str(folder.log), **usual, **more})


class Heard:
    """All who hear stations: keeps what it hears, and by what it can answer."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.workers: dict[str, Connection] = {}
        self.supervisors: list[Connection] = []
        self.links: dict[str, StationLink] = {}
        self.changed = asyncio.Event()

    def _note(self, *event: Any) -> None:
        self.events.append(event)
        self.changed.set()

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        self.workers[worker] = connection
        self._note("worker", worker)

    def worker_says(self, worker: str, frame: Frame) -> None:
        self._note("worker says", worker, frame["type"])

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        assert connection is self.workers[worker]
        self._note("worker gone", worker)

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        self.supervisors.append(connection)
        self._note("supervisor", hello["worker"])

    def supervisor_says(self, frame: Frame) -> None:
        self._note("supervisor says", frame["worker"], frame["type"])

    def supervisor_lost(self, connection: Connection) -> None:
        assert connection is self.supervisors[-1]
        self._note("supervisor gone")

    def station_connected(self, worker: str, station: StationLink) -> None:
        self.links[worker] = station
        self._note("station", worker)

    def station_heard(self, worker: str) -> None:
        self._note("heard", worker)

    def station_lost(self, worker: str) -> None:
        self._note("station gone", worker)

    def station_failed(self, worker: str, error: str) -> None:
        self._note("failed", worker, error)

    async def until(self, *event: Any) -> None:
        """Wait until this has been heard."""
        while event not in self.events:
            self.changed.clear()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self.changed.wait()


class ScriptedStation:
    """One connection to the door. All are closed when the door is."""

    _open: ClassVar[list["ScriptedStation"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream, self._writer = reader, writer
        self._reader, self._frames = FrameReader(), list[Frame]()
        self._open.append(self)

    @classmethod
    async def close_all(cls) -> None:
        """Have none left."""
        while cls._open:
            writer = cls._open.pop()._writer
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    @classmethod
    async def knock(cls, door: tuple[str, int]) -> "ScriptedStation":
        """Connect, and say nothing."""
        return cls(*await asyncio.open_connection(*door))

    @classmethod
    async def enter(cls, door: tuple[str, int], ticket: Ticket, /, **hello: Any) -> "ScriptedStation":
        """Connect, and introduce itself."""
        station = await cls.knock(door)
        text = ticket.to_json()
        usual = {"ticket": text, "signature": sign(SECRET, text), "version": cortex.__version__}
        station.say({"type": "hello", "role": "station", **usual, "node": "n1", "pid": os.getpid(), **hello})
        return station

    def say(self, frame: Frame, data: bytes | None = None) -> None:
        """Say something."""
        self.say_bytes(encode(frame, data))

    def say_bytes(self, data: bytes) -> None:
        """Say something that need not be a frame."""
        self._writer.write(data)

    def introduce(self, peer: str, worker: str = WORKER) -> None:
        """Have the Worker, or the supervisor, introduce itself."""
        if peer == "worker":
            self.say({"peer": peer, "type": "hello", "worker": worker, "phase": "ready", "has_hook": False})
        else:
            self.say({"peer": peer, "type": "hello", "worker": worker, "supervisor": "s", "pid": 1, "workers": []})

    async def hear(self, kind: str) -> Frame:
        """Wait for a frame of this type, and give it; others before it are passed over."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame["type"] == kind:
                    return frame
            async with asyncio.timeout(TIMEOUT_SECONDS):
                data = await self._stream.read(1 << 16)
            assert data, f"it was cut off before it heard `{kind}`"
            self._frames = self._reader.feed(data)

    async def is_cut_off(self) -> bool:
        """Wait until the operator closes the connection."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                while await self._stream.read(1 << 16):
                    pass
        return True

    def leave(self) -> None:
        """Be gone."""
        self._writer.close()


@contextlib.asynccontextmanager
async def opened(data: Path, heard: Heard, storage: Storage | None = None) -> AsyncIterator[tuple[str, int]]:
    """Open a door; give where it is."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = await open_door(listening, data=data, secret=SECRET, workers=heard, stations=heard, storage=storage)
        try:
            yield listening.getsockname()
        finally:
            await ScriptedStation.close_all()
            server.close()
        await server.wait_closed()
