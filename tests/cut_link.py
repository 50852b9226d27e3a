"""A network between stations and their operator that tests can cut: a TCP proxy which stops forwarding."""

import asyncio
import re
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Any, Final, Self

_WORKER: Final = re.compile(rb"[0-9a-f]{16}-[0-9a-f]{8}")
_READ_BYTES: Final = 1 << 16


class CuttableLink:
    """Forwards to a port of this machine from another one, `port`. To be entered."""

    def __init__(self, to_port: int) -> None:
        self.forwarded_bytes = 0  # in both directions
        self._to_port = to_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._is_listening = threading.Event()
        self._is_over = asyncio.Event()
        self._gates: dict[str, asyncio.Event] = defaultdict(_open_gate)  # by Worker
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    def cut(self, worker: str) -> None:
        """Forward nothing more for the station of a Worker, on whatever connection; nobody is told."""
        self._do(lambda: self._gates[worker].clear())

    def mend(self, worker: str) -> None:
        """Go on with what has come meanwhile."""
        self._do(lambda: self._gates[worker].set())

    def drop_all(self) -> None:
        """Close all connections, in the middle of whatever is said."""
        self._do(lambda: [writer.transport.abort() for writer in self._writers])

    def _do(self, what: Any) -> None:
        async def do() -> None:
            what()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.add(asyncio.ensure_future(self._forward(reader, writer)))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        await self._is_over.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(_READ_BYTES)
        known = _WORKER.search(first)
        gate = self._gates[known[0].decode() if known else ""]
        writers = [writer]
        self._writers.add(writer)
        try:
            await gate.wait()
            there, to = await asyncio.open_connection("127.0.0.1", self._to_port)
            writers.append(to)
            self._writers.add(to)
            to.write(first)
            self.forwarded_bytes += len(first)
            await asyncio.gather(self._pump(reader, to, gate), self._pump(there, writer, gate))
        except OSError:
            pass
        finally:
            for each in writers:
                self._writers.discard(each)
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        while data := await reader.read(_READ_BYTES):
            await gate.wait()
            self.forwarded_bytes += len(data)
            writer.write(data)
            await writer.drain()
        await gate.wait()
        with suppress(OSError):
            writer.write_eof()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
