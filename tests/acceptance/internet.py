"""The part of the internet that a project is to find: a few pages at their own https addresses."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import trustme

TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Keeps who asks for a page waiting."""

    asked: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        """Wait until somebody has asked."""
        assert self.asked.wait(TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Internet:
    """Pages behind a proxy, which answers for their hosts with certificates of a CA of its own."""

    pages: Mapping[str, bytes]
    env: Mapping[str, str]  # for who is to see these pages, and no others
    holds: dict[str, Hold] = field(default_factory=dict)

    @contextmanager
    def holding(self, url: str) -> Iterator[Hold]:
        """Keep whoever asks for a page waiting until the block is left."""
        hold = self.holds[url] = Hold()
        try:
            yield hold
        finally:
            del self.holds[url]
            hold.released.set()

    def read(self, url: str) -> bytes | None:
        """Give a page, if there is one, once nobody holds it."""
        if hold := self.holds.get(url):
            hold.asked.set()
            hold.released.wait(TIMEOUT_SECONDS)
        return self.pages.get(url)


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True
    internet: Internet
    tls: ssl.SSLContext


class _Tunnel(BaseHTTPRequestHandler):
    """A connection to the proxy: what it is asked to connect to is itself."""

    server: _Proxy

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError), self.server.tls.wrap_socket(self.connection, server_side=True) as inside:
            _Page(inside, self.client_address, self.server)  # who asks may be killed meanwhile

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


class _Page(_Tunnel):
    """A request inside of a tunnel."""

    def do_GET(self) -> None:
        page = self.server.internet.read(f"https://{self.headers['Host']}{self.path}")
        self.send_response(404 if page is None else 200)
        self.end_headers()
        self.wfile.write(page or b"")


@contextmanager
def run_internet(pages: Mapping[str, bytes], folder: Path) -> Iterator[Internet]:
    """Serve pages; the CA's certificate is written into the folder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with _Proxy(("127.0.0.1", 0), _Tunnel) as proxy:
        variables = {
            "HTTPS_PROXY": f"http://127.0.0.1:{proxy.server_port}",
            "NO_PROXY": "127.0.0.1,localhost",  # S3 is not on this internet
        }
        lower_case = {name.lower(): value for name, value in variables.items()}  # these come first where both are set
        env = {**variables, **lower_case, "REQUESTS_CA_BUNDLE": str(folder / "ca.pem")}
        proxy.internet = Internet(pages=pages, env=env)
        proxy.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*sorted({urlsplit(url).hostname or "" for url in pages})).configure_cert(proxy.tls)
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy.internet
        finally:
            proxy.shutdown()
            thread.join()
