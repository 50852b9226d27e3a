"""A proxy by which machines that reach only this one reach the package index that this one reaches."""

import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 1 << 16
_CONNECT_SECONDS = 30.0


@contextmanager
def run_proxy(host: str) -> Iterator[str]:
    """Give the URL of a proxy that listens at this address."""
    with _Server((host, 0), _Tunnel) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://{host}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False  # a client may keep its connection for as long as it lives


class _Tunnel(socketserver.StreamRequestHandler):
    """Answers `CONNECT HOST:PORT`, and passes on what follows, both ways."""

    rbufsize = 0  # what follows the request is not ours to read ahead

    def handle(self) -> None:
        method, place, _ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        host, _, port = place.rpartition(":")
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Only CONNECT\r\n\r\n")
            return
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            ends = {self.connection: there, there: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(_PIECE_BYTES)
                    if not data:
                        return
                    ends[end].sendall(data)
