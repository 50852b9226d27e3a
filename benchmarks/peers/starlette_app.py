"""A plain Starlette application around the function, called in the event loop, where that costs least.

    python -m benchmarks.peers.starlette_app PORT PROCESSES (h11|httptools) (asyncio|uvloop)

It is served as `uvicorn --workers` would, but for the listening socket, which is made with its protocol named: from one
without, asyncio does not switch Nagle's algorithm off, and every second answer of h11 would be 40 ms late.
"""

import socket
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.supervisors import Multiprocess

from benchmarks.empty import predict


async def answer(request: Request) -> Response:
    """Answer a request."""
    return JSONResponse(predict(await request.json()))


app = Starlette(routes=[Route("/predict", answer, methods=["POST"])])


def main() -> None:
    """Serve until SIGTERM."""
    port, processes, http, loop = sys.argv[1:]
    settings: dict[str, Any] = {"http": http, "loop": loop, "workers": int(processes)}
    config = uvicorn.Config("benchmarks.peers.starlette_app:app", access_log=False, log_level="warning", **settings)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.set_inheritable(True)
    if config.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        Multiprocess(config, sockets=[listener]).run()


if __name__ == "__main__":
    main()
