"""A Redis of its own for each peer that needs one.

It listens on loopback and appends every change to a file that is synced once a second (`appendonly yes`,
`appendfsync everysec`): what the Redis documentation recommends for data that must survive, short of a sync for every
command. Snapshots are off, since the file has everything.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = "redis-server"
START_SECONDS = 20


def missing() -> str:
    """Say so if there is no redis-server."""
    return "" if shutil.which(PROGRAM) else f"`{PROGRAM}` is not installed (Debian: apt-get install redis-server)"


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """Run one on a free port; give its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    settings += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with subprocess.Popen([PROGRAM, *settings], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_until_it_listens(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _wait_until_it_listens(port: int) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return
