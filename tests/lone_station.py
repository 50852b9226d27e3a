"""A real station with its supervisor and Worker, and in place of the operator the test, over real TCP."""

import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import textwrap
import zlib
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from channel_peer import TIMEOUT_SECONDS
from cortex.domain.batch import ENTRY, Page, ResultEntry
from cortex.domain.frame import Frame, FrameReader, encode
from cortex.domain.station_order import StationOrder
from cortex.domain.ticket import Ticket, sign

SECRET = "the operator's"
JOB = "0123456789abcdef"
WORKER = f"{JOB}-w1"
FOLDER = "/srv/cortex/jobs/job"  # the operator's: nothing here may look for it
PROJECT = "/srv/cortex/projects/p1"

_COMMAND = ("-m", "cortex.station")


class Door:
    """Where the operator listens, and what it has of the Worker's, whoever has brought it."""

    def __init__(self, bundles: Mapping[str, bytes]) -> None:
        self.bundles = bundles
        self.reads: list[str] = []  # the bundles that were begun to be read
        self.rows = bytearray()
        self.log = bytearray()
        self.said: list[str] = []
        self.page = bytes(Page.SIZE)
        self.written: list[Frame] = []
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_SECONDS)
        self.port: int = self._listener.getsockname()[1]

    def accept(self) -> "StationPeer":
        """Wait for a station, and let it know that there is an operator."""
        connection, _ = self._listener.accept()
        self._connections.append(connection)
        return StationPeer(connection, self)

    def close(self) -> None:
        """Listen no more, and hang up."""
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def reopen(self) -> None:
        """Listen again, as the next operator does."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.settimeout(TIMEOUT_SECONDS)

    def word(self, word: int) -> int:
        """Give a word of the page, as it was told last."""
        return int.from_bytes(self.page[8 * word : 8 * word + 8], sys.byteorder)

    def take(self, frame: Frame) -> None:
        """Keep what a frame of the station's own brings."""
        data = frame.get("data", b"")
        match frame["type"]:
            case "rows":
                end = frame["offset"] + len(data)
                self.rows.extend(bytes(max(0, end - len(self.rows))))
                self.rows[frame["offset"] : end] = data
            case "log":
                del self.log[frame["offset"] :]
                self.log += data
            case "page":
                self.page = data
            case "say":
                self.said.append(frame["text"])
            case "written":
                self.written.append(frame)


class StationPeer:
    """A station that has connected, and what it relays."""

    def __init__(self, connection: socket.socket, door: Door) -> None:
        self.connection = connection
        self.connection.settimeout(TIMEOUT_SECONDS)
        self.heard: list[Frame] = []  # since the last Lease was given: all but beats
        self.all_heard: list[Frame] = []
        self._door = door
        self._reader, self._unheard = FrameReader(), list[Frame]()
        self.hello = self.hear("hello")
        self.send({"type": "beat", "n": 0})

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """Send a frame."""
        self.connection.sendall(encode(frame, data))

    def hear(self, kind: str, peer: str | None = None) -> Frame:
        """Give the next frame of this type, from the station or one of its peers. Fails where it hangs up instead."""
        while True:
            frame = self._next()
            if (kind, peer) == (frame["type"], frame.get("peer")):
                return frame
            assert (kind, frame["type"]) != ("lease_ended", "exited"), self._door.log.decode()

    def meet_again(self) -> tuple[Frame, Frame]:
        """Give the `hello` of supervisor and of Worker, whichever comes first."""
        found: dict[str, Frame] = {}
        while len(found) < 2:
            frame = self._next()
            if frame["type"] == "hello":
                found[frame["peer"]] = frame
        return found["supervisor"], found["worker"]

    def hear_to_the_end(self) -> None:
        """Hear all that it says until it hangs up."""
        while data := self.connection.recv(1 << 20):
            for frame in self._reader.feed(data):
                self._take(frame)
        self.connection.close()

    def cut(self) -> None:
        """Cut the connection."""
        self.connection.close()

    def ready(self, start: Frame) -> Frame:
        """Have the Worker started; give its `hello`."""
        self.hear("hello", "supervisor")
        self.send(start)
        self.hear("started", "supervisor")
        return self.hear("hello", "worker")

    def offer(self, token: int, batches: Sequence[bytes], *, first: int = 0, **extras: Any) -> None:
        """Lease Batches to the Worker."""
        kept = extras.pop("kept_data", None)
        self.heard.clear()
        index = array("I", accumulate(map(len, batches), initial=0)) + array("I", map(zlib.crc32, batches))
        payload: dict[str, Any] = {"kind": "inline", "bytes": sum(map(len, batches))}
        if kept is not None:
            payload["kept"] = len(kept)
        end = first + len(batches)
        lease = {"peer": "worker", "type": "lease", "token": token, "segment": 7, "segment_first": 0}
        in_pieces = extras.pop("in_pieces", None)
        data = b"".join(batches)
        if in_pieces:
            for offset in range(0, len(data), in_pieces):
                self.send({"type": "payload", "token": token}, data[offset : offset + in_pieces])
            data = b""
        frame = {**lease, "first": first, "end": end, "payload": payload, "index": 4 * len(index), **extras}
        self.send(frame, index.tobytes() + data + (kept or b""))

    def lease(self, token: int, batches: Sequence[bytes], *, first: int = 0, **extras: Any) -> Frame:
        """Lease Batches to the Worker; give what it says at the end."""
        self.offer(token, batches, first=first, **extras)
        return self.hear("lease_ended", "worker")

    def _next(self) -> Frame:
        while not self._unheard:
            data = self.connection.recv(1 << 20)
            assert data, f"it has hung up, after {[each['type'] for each in self.heard]}"
            self._unheard = self._reader.feed(data)
        frame = self._unheard.pop(0)
        self._take(frame)
        return frame

    def _take(self, frame: Frame) -> None:
        if frame["type"] == "beat":
            if frame.get("peer") is None:
                self.send({"type": "beat", "n": frame["n"]})
            return
        self.heard.append(frame)
        self.all_heard.append(frame)
        if frame["type"] == "read":
            self._give(frame)
        elif frame.get("peer") is None:
            self._door.take(frame)

    def _give(self, read: Frame) -> None:
        bundle, offset = self._door.bundles.get(read["bundle"]), read["offset"]
        piece = {"type": "piece", "id": read["id"], "offset": offset, "error": None}
        if offset == 0:
            self._door.reads.append(read["bundle"])
        if bundle is None:
            self.send({**piece, "total": 0, "error": "there is no such bundle"}, b"")
        else:
            self.send({**piece, "total": len(bundle)}, bundle[offset : offset + (1 << 20)])


def pack(files: Mapping[str, str]) -> bytes:
    """Pack a bundle of these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            content = textwrap.dedent(text).encode()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def start_frame(*, config: Mapping[str, Any] | None = None, **others: Any) -> Frame:
    """Give what the operator's engine sends to start the Worker of the project `p1`."""
    serves = others.pop("serves", False)
    setup = {"config": config or {}, "job_spec": {}, **others.pop("setup", {})}
    order = {
        "worker": WORKER,
        "job_id": JOB,
        "folder": FOLDER,
        "channel": FOLDER,
        "project": PROJECT,
        "predictor_path": "predictor.py",
        "predictor_type": "python",
        "python_path": None,
        "serves": serves,
        "env": {"CORTEX_JOB_ID": JOB, "MINE": "1"},
    }
    return {
        "peer": "supervisor",
        "type": "start",
        "python": "/srv/python",
        "env": {"OPERATORS": "1"},
        "log": f"{FOLDER}/log",
        "log_limit_bytes": 1 << 20,
        "log_rotates": serves,
        "keep_warm_seconds": 0,
        "heartbeat_seconds": 30,
        "place": {"job_id": JOB, "devices": [], "lasts": False, "millicores": 0, "mem_bytes": 0, "gpus": 0},
        "order": order,
        "setup": json.dumps(setup),
        "project_id": "p1",
        "models": {},
        "requirements": False,
        "wants_gpu": False,
        **others,
    }


class Stations:
    """Starts stations of one machine; none of them outlives the test."""

    def __init__(self, node: Path) -> None:
        self.node = node
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        door: Door,
        *,
        worker: str = WORKER,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = _COMMAND,
    ) -> Any:
        """Start the station of a Worker."""
        ticket = Ticket(
            worker=worker,
            job_id=JOB,
            project_id=Path(PROJECT).name,
            folder=FOLDER,
            log=f"{FOLDER}/log",
            log_limit_bytes=1 << 20,
            log_rotates=False,
            serves=False,
        ).to_json()
        order = StationOrder(
            ticket=ticket,
            signature=sign(SECRET, ticket),
            host="127.0.0.1",
            port=door.port,
            heartbeat_seconds=30,
            storage=None,
        )
        process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            env={**os.environ, "CORTEX_NODE_FOLDER": str(self.node), **(env or {})},
        )
        assert process.stdin is not None
        process.stdin.write(order.to_json().encode())
        process.stdin.close()
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill them all; with them go their Workers."""
        for process in self._started:
            process.kill()
            process.wait()


def entries(written: Frame) -> list[ResultEntry]:
    """Give the result entries in a `written` frame."""
    return [ResultEntry(*fields) for fields in ENTRY.iter_unpack(written["data"][written["states"] :])]


def states(written: Frame) -> list[int]:
    """Give the state bytes in it."""
    return list(written["data"][: written["states"]])
