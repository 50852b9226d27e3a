"""A server that lists and serves as many objects as a benchmark wants, and takes hardly any time for it.

    python -m benchmarks.synthetic_s3 KEYS OBJECT_BYTES [SECONDS [BYTES_PER_SECOND]]
    python -m benchmarks.synthetic_s3 KEYS FILE [SECONDS [BYTES_PER_SECOND]]

It speaks as much of S3 as listing a bucket and reading ranges needs: `ListObjectsV2` in pages of 1,000 keys, and `GET`.
Each object is a file that is sent by the kernel, or lines `{"n": "0000000000000000", …}` that exist nowhere. An answer
begins after so many seconds, as if it came from far away, and a file comes with so many bytes a second over each
connection. It prints its address, and ends with its standard input.
"""

import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

LINE = b'{"n": "%016d", "text": "the quick brown fox jumps over the lazy dog"}\n'
LINE_BYTES = len(LINE % 0)
PAGE_KEYS = 1000
_SENT_BYTES = 2**18
PREFIX = "data/"


class SyntheticS3(BaseHTTPRequestHandler):
    """See the module."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    keys = 0
    object_bytes = 0
    file: Path | None = None
    seconds = 0.0
    bytes_per_second = math.inf

    def do_GET(self) -> None:
        time.sleep(self.seconds)
        parts = urlsplit(self.path)
        if not parts.path.strip("/").count("/"):
            self._list({name: values[0] for name, values in parse_qs(parts.query).items()})
        else:
            self._read()

    do_HEAD = do_GET  # noqa: N815 - as http.server wants it

    def log_message(self, *_: object) -> None:
        pass

    def _list(self, query: dict[str, str]) -> None:
        after = query.get("continuation-token") or query.get("start-after") or ""
        first = int(after.rpartition("-")[2].removesuffix(".jsonl")) + 1 if after else 0
        end = min(first + PAGE_KEYS, self.keys) if query.get("prefix", "").startswith(PREFIX) else first
        names = [f"{PREFIX}part-{number:09}.jsonl" for number in range(first, end)]
        contents = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;{name[-15:-6]}&quot;</ETag><Size>{self.object_bytes}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for name in names
        )
        more = f"<NextContinuationToken>{names[-1]}</NextContinuationToken>" if end < self.keys and names else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>bucket</Name><KeyCount>{len(names)}</KeyCount><MaxKeys>{PAGE_KEYS}</MaxKeys>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{contents}</ListBucketResult>"
        ).encode()
        self._answer(200, len(body), {"Content-Type": "application/xml"})
        self.wfile.write(body)

    def _read(self) -> None:
        first, last = 0, self.object_bytes - 1
        if wanted := self.headers.get("Range"):
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, last = int(begin), min(int(end or last), last)
        etag = f'"{self.path[-15:-6]}"'
        headers = {"ETag": etag, "Content-Range": f"bytes {first}-{last}/{self.object_bytes}"}
        self._answer(206 if wanted else 200, last - first + 1, headers)
        if self.command == "HEAD":
            return
        if self.file:
            self._send_file(self.file, first, last + 1)
            return
        position = first
        while position <= last:
            line, skip = divmod(position, LINE_BYTES)
            block = b"".join(LINE % number for number in range(line, line + 4096))[skip : skip + last - position + 1]
            self.wfile.write(block)
            position += len(block)

    def _send_file(self, path: Path, position: int, end: int) -> None:
        self.wfile.flush()
        began_at, begin = time.perf_counter(), position
        most = end if math.isinf(self.bytes_per_second) else _SENT_BYTES
        with path.open("rb") as file, suppress(ConnectionError):  # who has read enough hangs up
            while position < end:
                count = min(end - position, most)
                position += os.sendfile(self.connection.fileno(), file.fileno(), position, count)
                late = time.perf_counter() - began_at - (position - begin) / self.bytes_per_second
                if late < 0:
                    time.sleep(-late)

    def _answer(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def running_s3(
    keys: int, content: int | Path, seconds: float = 0.0, bytes_per_second: float = math.inf
) -> Iterator[dict[str, str]]:
    """Run one in a process of its own; give the variables by which it is reached."""
    command = [sys.executable, str(Path(__file__)), str(keys), str(content), str(seconds), str(bytes_per_second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip() if process.stdout else ""
        yield {
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        process.communicate()


def main() -> None:
    """Serve until standard input ends."""
    SyntheticS3.keys = int(sys.argv[1])
    if sys.argv[2].isdigit():
        SyntheticS3.object_bytes = int(sys.argv[2]) // LINE_BYTES * LINE_BYTES
    else:
        SyntheticS3.file = Path(sys.argv[2])
        SyntheticS3.object_bytes = SyntheticS3.file.stat().st_size
    SyntheticS3.seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    SyntheticS3.bytes_per_second = float(sys.argv[4]) if len(sys.argv) > 4 else math.inf
    server = ThreadingHTTPServer(("127.0.0.1", 0), SyntheticS3)
    Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
