"""The least that a durable submission can cost: the operator's web framework, one SQLite commit, and nothing else.

    python -m benchmarks.bare_submit FILE

Starlette on uvicorn with the settings that the operator has; the body goes into one row, with `synchronous=FULL`. It
prints its address, and ends with SIGTERM.
"""

import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.options import ROOT


@contextmanager
def running_bare_submit(folder: Path) -> Iterator[str]:
    """Run one in a process of its own; give its address."""
    command = [sys.executable, "-m", "benchmarks.bare_submit", str(folder / "bare.sqlite")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process.stdout.readline().strip() if process.stdout else ""
        finally:
            process.terminate()


def make_app(file: Path) -> Starlette:
    """Make the application over a database."""
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE job (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")

    async def submit(request: Request) -> Response:
        body = await request.body()
        number = database.execute("INSERT INTO job (body) VALUES (?)", (body,)).lastrowid
        return Response(json.dumps({"job_id": number}), media_type="application/json")

    return Starlette(routes=[Route("/api", submit, methods=["POST"])])


def main() -> None:
    """Serve until SIGTERM."""
    # With its protocol named, or asyncio would not switch Nagle's algorithm off for the connections.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(make_app(Path(sys.argv[1])), log_level="error", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
