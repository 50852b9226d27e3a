"""The actor that Ray runs for each Worker: it starts a station, and knows how that ends.

Nothing else is left to Ray: it would report a `kill -9`, an exit code and a crash of the user's code all alike. Ray
takes a second to start an actor, so one whose station has ended well may start another, for the next Worker that needs
the same. Until then it keeps a station that has imported all that it needs and waits for its order.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Final, cast

import ray

_LINGER_SECONDS: Final = 60.0
"""How long an actor can still be asked how its station ended: a bridge may have to be started again meanwhile."""


class StationActor:
    """Starts a station when it is made, and others after it.

    All of its methods are coroutines, so that nobody who asks waits for others, and the threads that start stations
    last as long as this process: a station dies with either.
    """

    def __init__(self, worker: str, order: str, keep_warm_seconds: float) -> None:
        self._keep_warm_seconds = keep_warm_seconds
        self._next: subprocess.Popen[bytes] | None = None
        self._end: asyncio.Future[int] | None = None
        self._begin(worker, order)
        threading.Thread(target=self._leave, daemon=True).start()

    async def node(self) -> tuple[str, str]:
        """Give id and address of the node that this runs on."""
        context = ray.get_runtime_context()
        return str(context.get_node_id()), str(ray.util.get_node_ip_address())

    async def start(self, worker: str, order: str) -> None:
        """Start a station for another Worker; the one before has ended."""
        self._begin(worker, order)

    async def worker(self) -> str:
        """Name the Worker whose station was started last."""
        return self._worker

    async def ended(self) -> int:
        """Wait until the station has ended; give its exit status, as Popen has it."""
        if self._end is None:
            self._end = asyncio.ensure_future(asyncio.to_thread(self._station.wait))
        status = await asyncio.shield(self._end)
        if status == 0 and self._next is None and self._keep_warm_seconds > 0:
            self._next = _start()
        return status

    def _begin(self, worker: str, order: str) -> None:
        station, self._next = self._next, None
        if station is None or station.poll() is not None:
            station = _start()
        self._worker, self._station, self._end = worker, station, None
        with suppress(BrokenPipeError), cast("IO[bytes]", station.stdin) as stdin:  # who dies unread is seen to end
            stdin.write(order.encode())

    def _leave(self) -> None:
        """Leave the node to others when no station has run for a while, even if nobody is there who removes this."""
        station = None
        while station is not self._station:
            station = self._station
            station.wait()
            time.sleep(_LINGER_SECONDS + self._keep_warm_seconds)
        os._exit(0)


def _start() -> "subprocess.Popen[bytes]":
    # -P: no folder that happens to be the present one is to be imported from.
    command = [sys.executable, "-P", "-m", "cortex.station", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE)
