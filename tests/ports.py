"""Ports that nobody else takes while whoever listens there is away for a moment."""

import itertools
import os
import socket
from typing import Final

# Below those that Linux gives to whoever asks for any, and not those of other processes that run tests beside this one.
_FIRST: Final = 10_000
_COUNT: Final = 1000
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS: Final = itertools.cycle(range(_FIRST + _WORKER % 20 * _COUNT, _FIRST + (_WORKER % 20 + 1) * _COUNT))
next(itertools.islice(_PORTS, os.getpid() % _COUNT, None))  # other runs of the tests may be on this machine


def free_port(host: str = "127.0.0.1") -> int:
    """Give a port on which nobody listens, and for long another one each time."""
    for port in itertools.islice(_PORTS, _COUNT):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are taken")
