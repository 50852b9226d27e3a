"""Plain Starlette on uvicorn: the least that serving a Python function over HTTP costs, with nothing around it.

From the documentation of uvicorn ("Deployment", "Settings"): workers for processes, no access log. Once with what
`pip install uvicorn starlette` gives (h11 and asyncio), once with what `uvicorn[standard]` adds (httptools and uvloop).
It calls the function in its event loop: a `predict` that takes long would keep all other requests of its process
waiting, which is why services do not.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.peer import Server, worker_processes

PLAIN, FAST = "Starlette, uvicorn", "Starlette, uvicorn[standard]"


class StarletteUvicorn(Server):
    """See the module."""

    requests = 20_000

    def __init__(self, *, is_fast: bool = False) -> None:
        self.name = FAST if is_fast else PLAIN
        self.needs = ("httptools", "uvloop") if is_fast else ()
        self._settings = ("httptools", "uvloop") if is_fast else ("h11", "asyncio")

    @contextmanager
    def running(self, processes: int, folder: Path) -> Iterator[str]:
        port = free_port()
        command = ["benchmarks.peers.starlette_app", str(port), str(processes), *self._settings]
        with worker_processes([command], folder, {}):
            yield f"http://127.0.0.1:{port}/predict"


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
