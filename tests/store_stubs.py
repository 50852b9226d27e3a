"""Servers that speak just enough of Google Cloud Storage and Azure Blob Storage: list, get, head, put and delete."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"
PAGE_SIZE = 500
_DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


class StoreStub(ThreadingHTTPServer):
    """Objects in memory, given as Google's XML API or as Azure has it."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that a reader goes away early is part of the tests."""

    def __init__(self, scheme: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = scheme
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refusals: list[int] = []  # what the next requests are answered instead
        self.cuts: list[int] = []  # after how many bytes the next bodies break off

    @property
    def settings(self) -> dict[str, object]:
        """How obstore reaches it."""
        address = f"http://127.0.0.1:{self.server_port}"
        if self.scheme == "gs":
            return {"base_url": address, "bearer_token": "token", "allow_http": True}
        return {"endpoint": address, "account_name": "account", "skip_signature": True, "allow_http": True}


@contextmanager
def run_store_stub(scheme: str) -> Iterator[StoreStub]:
    """Run a stub."""
    server = StoreStub(scheme)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StoreStub

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.refusals:
            return self._answer(self.server.refusals.pop(0))
        bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        if bucket != BUCKET:
            return self._answer(404)
        if not key:
            return self._list({name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()})
        return self._get(key)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if bucket != BUCKET:
            return self._answer(404)
        self.server.objects[key] = body
        return self._answer(201, etag=_etag(body))

    def do_DELETE(self) -> None:
        self._answer(204 if self._remove(self.path) else 404)

    def do_POST(self) -> None:
        """Remove several, each a request of its own in the body: so obstore asks Azure."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        answers = [
            f"--answers\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
            f"HTTP/1.1 {'202 Accepted' if self._remove(path) else '404 Not Found'}\r\n\r\n"
            for number, path in enumerate(re.findall(r"^DELETE (\S+) HTTP", body, re.MULTILINE))
        ]
        self._answer(202, "".join([*answers, "--answers--\r\n"]).encode(), kind="multipart/mixed; boundary=answers")

    def _remove(self, path: str) -> bool:
        bucket, _, key = unquote(urlsplit(path).path).removeprefix("/").partition("/")
        return bucket == BUCKET and self.server.objects.pop(key, None) is not None

    def log_message(self, *_: object) -> None:
        pass

    def _get(self, key: str) -> None:
        body = self.server.objects.get(key)
        if body is None:
            return self._answer(404)
        etag = _etag(body)
        if self.headers["If-Match"] not in (None, etag):
            return self._answer(412)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if asked is None:
            return self._answer(200, body, etag)
        begin, last = int(asked[1]), int(asked[2] or len(body) - 1)
        if begin >= len(body):
            return self._answer(416)
        part = body[begin : last + 1]
        return self._answer(206, part, etag, f"bytes {begin}-{begin + len(part) - 1}/{len(body)}")

    def _list(self, asked: dict[str, str]) -> None:
        marker = asked.get("continuation-token") or asked.get("marker") or ""
        after, begin = asked.get("start-after", ""), asked.get("startFrom", "")
        keys = [
            key
            for key in sorted(self.server.objects, key=str.encode)
            if key.startswith(asked.get("prefix", "")) and key > marker and key > after and key >= begin
        ]
        page, rest = keys[:PAGE_SIZE], keys[PAGE_SIZE:]
        write = self._google_page if self.server.scheme == "gs" else self._azure_page
        self._answer(200, write(page, page[-1] if rest else "").encode())

    def _google_page(self, keys: list[str], marker: str) -> str:
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{escape(_etag(self.server.objects[key]))}</ETag><Size>{len(self.server.objects[key])}</Size></Contents>"
            for key in keys
        )
        more = f"<NextContinuationToken>{escape(marker)}</NextContinuationToken>" if marker else ""
        return f"<ListBucketResult><Name>{BUCKET}</Name>{more}{entries}</ListBucketResult>"

    def _azure_page(self, keys: list[str], marker: str) -> str:
        entries = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Last-Modified>{_DATE}</Last-Modified>"
            f"<Content-Length>{len(self.server.objects[key])}</Content-Length><Content-Type>text/plain</Content-Type>"
            f"<Etag>{escape(_etag(self.server.objects[key]))}</Etag></Properties></Blob>"
            for key in keys
        )
        return (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{entries}</Blobs>'
            f"<NextMarker>{escape(marker)}</NextMarker></EnumerationResults>"
        )

    def _answer(
        self, status: int, body: bytes = b"", etag: str = "", content_range: str = "", kind: str = "text/plain"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", _DATE)
        if etag:
            self.send_header("ETag", etag)
            self.send_header("x-ms-blob-type", "BlockBlob")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command == "HEAD":
            return
        if etag and body and self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
