"""Simulated workers by the thousand: what the operator sees of them is real, only `predict` is time that passes.

    python benchmarks/simulated_workers.py supervisor CHANNEL NAME

is a supervisor that starts no processes: it spreads the workers that the operator orders over a few host processes.
Each host holds the connections, pages and state bytes of many workers and takes the steps of `worker/life.py` on them:
a page names the batch before it begins, its limit is heeded, the state bytes are stored, then the lease's end is told.
A host steps through a lease in pieces of `PIECE_SECONDS`, and not batch by batch. Rows and log lines are not written.
"""

import asyncio
import itertools
import json
import mmap
import os
import random
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cortex.domain.batch import BatchState, Page
from cortex.domain.frame import Frame, FrameReader, encode
from cortex.domain.layout import JobFolder
from cortex.domain.silence import BEAT_SECONDS
from cortex.worker.kernel import raise_file_limit
from cortex.worker.link import ORPHAN_SECONDS, short_path

HOSTS: Final = "CORTEX_SCALE_HOSTS"
"""How many host processes there are."""

BATCH_SECONDS: Final = "CORTEX_SCALE_BATCH_SECONDS"
"""How long a batch takes."""


COUNTERS: Final = "CORTEX_SCALE_COUNTERS"
"""A file in which each host counts: 8 words for each."""

PIECE_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.05
READY, LEASES, BATCHES, GONE, CONNECTS = range(5)
_WORDS: Final = 8


class Counters:
    """What the hosts count, in a file that the benchmark reads without asking anybody."""

    def __init__(self, path: Path, hosts: int) -> None:
        self._path = path
        self._hosts = hosts

    def create(self) -> None:
        """Begin at 0."""
        self._path.write_bytes(bytes(8 * _WORDS * self._hosts))

    def total(self, word: int) -> int:
        """Add up what all hosts have counted."""
        words = struct.unpack(f"@{_WORDS * self._hosts}Q", self._path.read_bytes())
        return sum(words[word::_WORDS])

    def of_host(self, number: int) -> "memoryview[int]":
        """Give the words of one host, to be counted in."""
        with self._path.open("r+b") as file:
            words = memoryview(mmap.mmap(file.fileno(), 0)).cast("B").cast("Q")
        return words[_WORDS * number : _WORDS * (number + 1)]


class Peer(asyncio.Protocol):
    """A connection to the operator's channel that comes back when the operator does."""

    def __init__(
        self,
        channel: Path,
        hear: Callable[[Frame], None],
        hello: Callable[[], Frame],
        listens: Callable[[], bool] = lambda: True,
    ) -> None:
        self._channel = channel
        self._hear = hear
        self._hello = hello
        self._listens = listens  # else it sees that the operator is gone when it has something to say
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._gone_at = time.monotonic()
        self.is_over = False

    async def connect(self) -> None:
        """Try until there is an operator, but not for longer than a real worker would."""
        loop = asyncio.get_running_loop()
        while not self.is_over and time.monotonic() - self._gone_at < ORPHAN_SECONDS:
            try:
                with short_path(self._channel) as address:
                    await loop.create_unix_connection(lambda: self, address)
            except OSError:
                await asyncio.sleep(_RETRY_SECONDS * random.uniform(1, 2))  # noqa: S311 - spreads the tries
            else:
                return

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._reader = FrameReader()
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self.send(self._hello())

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        for frame in self._reader.feed(data):
            self._hear(frame)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See asyncio.Protocol."""
        self._transport = None
        self._gone_at = time.monotonic()
        if not self.is_over and self._listens():
            keep(self.connect())

    def send(self, frame: Frame) -> None:
        """Send a frame, or introduce ourselves to the next operator instead."""
        if self._transport is not None:
            self._transport.write(encode(frame))
        elif not self._listens():
            self._gone_at = time.monotonic()
            keep(self.connect())

    def close(self) -> None:
        """Come back no more."""
        self.is_over = True
        if self._transport is not None:
            self._transport.close()


_tasks: set[asyncio.Task[None]] = set()


def keep(work: Any) -> None:
    """Let something go on beside everything else."""
    task = asyncio.get_running_loop().create_task(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class SimulatedWorker:
    """One worker, in the steps of `worker/life.py`."""

    def __init__(self, host: "Host", order: dict[str, Any]) -> None:
        self._host = host
        self.worker: str = order["worker"]
        self._folder = JobFolder(Path(order["folder"]))
        with self._folder.page(self.worker).open("r+b") as file:
            self._page = memoryview(mmap.mmap(file.fileno(), Page.SIZE)).cast("B").cast("Q")
        self._phase = "initializing"
        self._lease: Frame = {}
        self._finished = 0
        self._began_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_lease = False
        self._peer = Peer(Path(order["channel"]), self._hear, self._hello, lambda: not self._is_in_lease)
        keep(self._live())

    async def _live(self) -> None:
        await self._peer.connect()
        self._phase = "ready"
        self._peer.send({"type": "ready", "has_hook": False})
        self._host.count(READY)

    def _hello(self) -> Frame:
        self._host.count(CONNECTS)
        who = {"type": "hello", "role": "worker", "worker": self.worker}
        return {**who, "phase": self._phase, "has_hook": False, "error": None}

    def _hear(self, frame: Frame) -> None:
        if frame["type"] == "lease":
            self._is_in_lease = True
            self._lease, self._finished, self._began_at = frame, 0, time.monotonic()
            self._begin(frame["first"])
        elif frame["type"] in ("finish", "end"):
            self.end()

    def end(self) -> None:
        """Be gone."""
        if not self._peer.is_over:
            self._peer.close()
            if self._timer is not None:
                self._timer.cancel()
            self._host.gone(self)

    def _begin(self, batch: int) -> None:
        """Begin a piece of the Lease, as far as the limit allows, or tell that it is over."""
        page, end = self._page, self._lease["end"]
        if batch < end:
            page[Page.STARTED_AT_NS] = time.time_ns()
            page[Page.CURRENT] = batch + 1
        if batch >= min(end, page[Page.LIMIT]):
            self._tell()
            return
        seconds = self._host.batch_seconds
        count = min(end - batch, max(1, int(PIECE_SECONDS / seconds)))
        self._timer = asyncio.get_running_loop().call_later(count * seconds, self._store, batch, batch + count)

    def _store(self, batch: int, end: int) -> None:
        """End a piece: of what was taken back meanwhile, only the first Batch had been begun."""
        page = self._page
        end = min(end, max(page[Page.LIMIT], batch + 1))
        if page[Page.TOKEN] == self._lease["token"]:
            self._host.store(self._folder, self._lease, batch, end)
            page[Page.FINISHED] += end - batch
            page[Page.BUSY_NS] += int((end - batch) * self._host.batch_seconds * 1e9)
            self._finished += end - batch
            self._host.count(BATCHES, end - batch)
        self._begin(end)

    def _tell(self) -> None:
        self._page[Page.CURRENT] = 0
        self._host.count(LEASES)
        told = {"finished": self._finished, "failed": 0, "seconds": time.monotonic() - self._began_at}
        self._peer.send({"type": "lease_ended", "token": self._lease["token"], **told})
        self._is_in_lease = False


class Host:
    """One process with many workers: orders come on its standard input, what became of them goes to its output."""

    def __init__(self, number: int) -> None:
        self.batch_seconds = float(os.environ[BATCH_SECONDS])
        self._counters = Counters(Path(os.environ[COUNTERS]), int(os.environ[HOSTS])).of_host(number)
        self._workers: dict[str, SimulatedWorker] = {}
        self._states: dict[Path, mmap.mmap] = {}

    async def serve(self) -> None:
        """Serve until the supervisor is gone."""
        reader = asyncio.StreamReader(limit=1 << 24)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = json.loads(line)
            worker = order["worker"]
            if "folder" in order:
                self._workers[worker] = SimulatedWorker(self, order)
                self._say({"type": "started", "worker": worker, "pid": os.getpid()})
            elif known := self._workers.get(worker):
                known.end()

    def count(self, word: int, count: int = 1) -> None:
        """Count something."""
        self._counters[word] += count

    def store(self, folder: JobFolder, lease: Frame, first: int, end: int) -> None:
        """Store the state bytes of Batches that have succeeded."""
        path = folder.states(lease["segment"])
        if path not in self._states:
            with path.open("r+b") as file:
                self._states[path] = mmap.mmap(file.fileno(), 0)
        base = lease["segment_first"]
        self._states[path][first - base : end - base] = bytes([BatchState.SUCCEEDED]) * (end - first)

    def gone(self, worker: SimulatedWorker) -> None:
        """Tell that a worker has ended."""
        del self._workers[worker.worker]
        self.count(GONE)
        self._say({"type": "gone", "worker": worker.worker})

    def _say(self, what: Frame) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


class SimulatedSupervisor:
    """Hands the orders of the operator to the hosts, and tells it what they say."""

    def __init__(self, channel: Path, name: str) -> None:
        self._name = name
        self._children: dict[str, Frame] = {}
        self._host_of: dict[str, asyncio.StreamWriter] = {}
        self._over = asyncio.Event()
        self._link = Peer(channel, self._obey, self._hello)
        self._hosts: list[asyncio.StreamWriter] = []

    async def serve(self) -> None:
        """Serve until the operator says so, or none comes back."""
        for number in range(int(os.environ[HOSTS])):
            host = await asyncio.create_subprocess_exec(
                sys.executable,
                __file__,
                "host",
                str(number),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 24,
            )
            if host.stdin is not None and host.stdout is not None:
                self._hosts.append(host.stdin)
                keep(self._listen(host.stdout))
        self._turns = itertools.cycle(self._hosts)
        await self._link.connect()
        print("connected", flush=True)  # the benchmark waits for it
        keep(self._beat())
        await self._over.wait()

    def _hello(self) -> Frame:
        who = {"type": "hello", "role": "supervisor", "supervisor": self._name, "pid": os.getpid()}
        return {**who, "beats": True, "serves": True, "workers": list(self._children.values())}

    def _obey(self, frame: Frame) -> None:
        kind, worker = frame["type"], frame.get("worker", "")
        if kind == "start":
            worker = frame["order"]["worker"]
            gone = {"exit_status": None, "out_of_memory": False, "stopped_seconds": None}
            self._children[worker] = {"worker": worker, "pid": None, "place": frame["place"], **gone}
            self._host_of[worker] = next(self._turns)
            self._tell_host(worker, {key: frame["order"][key] for key in ("worker", "folder", "channel")})
        elif kind == "stop" and worker in self._children and frame["at_once"]:
            self._tell_host(worker, {"worker": worker})
        elif kind == "forget":
            self._children.pop(worker, None)
        elif kind == "end":
            self._link.close()
            self._over.set()

    def _tell_host(self, worker: str, what: dict[str, Any]) -> None:
        host = self._host_of[worker]
        if not host.is_closing():
            host.write(json.dumps(what).encode() + b"\n")

    async def _listen(self, host: asyncio.StreamReader) -> None:
        while line := await host.readline():
            told = json.loads(line)
            child = self._children.get(told["worker"])
            if child is None:
                continue
            if told["type"] == "started":
                child["pid"] = told["pid"]
                self._link.send(told)
            else:
                child["exit_status"] = 0
                self._link.send({"type": "drained", "worker": told["worker"]})
                self._link.send({"type": "exited", **child})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._link.send({"type": "beat", "pid": os.getpid()})


def main() -> None:
    """Be what the arguments say."""
    raise_file_limit()
    match sys.argv[1:]:
        case ["host", number]:
            asyncio.run(Host(int(number)).serve())
        case ["supervisor", channel, name]:
            asyncio.run(SimulatedSupervisor(Path(channel), name).serve())


if __name__ == "__main__":
    main()
