"""Requests as fast as they are answered, from one loop that costs little: it shares the cores with what it measures.

Each connection sends the next request when the last is answered, and every answer is compared with what it must be.
"""

import http.client
import json
import select
import socket
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 120
LOOK_SECONDS = 0.1
READ_BYTES = 65536
GOOD = b"HTTP/1.1 200 "
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What so many requests took: all together, and each."""

    seconds: float
    times: list[float]

    def percentile_ms(self, percent: int) -> float:
        """Give a percentile of the times, in milliseconds."""
        return 1000 * statistics.quantiles(self.times, n=100)[percent - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where JSON is sent, what is sent, and what must come back."""

    host: str
    port: int
    request: bytes
    ending: bytes

    @classmethod
    def find(cls, url: str, payload: Any, answer: Any) -> "Endpoint":
        """Send requests until one is answered with 200; learn from it how an answer ends on the wire."""
        address = urlsplit(url)
        host, port, path = str(address.hostname), address.port or 80, address.path
        body = json.dumps(payload).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        text, is_chunked = _first_answer(host, port, path, body)
        if json.loads(text) != answer:
            raise RuntimeError(f"the answer was {text[:300]!r} instead of {answer!r}")
        ending = HEAD_END + (b"%x\r\n%b\r\n0\r\n\r\n" % (len(text), text) if is_chunked else text)
        return cls(host=host, port=port, request=request, ending=ending)

    def measure(self, count: int, connections: int) -> Rate:
        """Send so many requests over so many connections; an answer that is not the expected one is an error."""
        with ExitStack() as stack:
            sockets = dict[int, socket.socket]()
            for _ in range(connections):
                each = stack.enter_context(socket.create_connection((self.host, self.port), timeout=PATIENCE_SECONDS))
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sockets[each.fileno()] = each
                # One by one: where processes accept from one socket, the first would take all that come together.
                self._exchange({each.fileno(): each}, 1)
            return self._exchange(sockets, count)

    def _exchange(self, sockets: dict[int, socket.socket], count: int) -> Rate:
        poller, clock = select.epoll(), time.perf_counter
        sent_at, parts, times = dict[int, float](), dict[int, bytes](), list[float]()
        began_at = clock()
        for number, each in sockets.items():
            poller.register(number, select.EPOLLIN)
            sent_at[number] = clock()
            each.send(self.request)
        left = count - len(sockets)
        while len(times) < count:
            events = poller.poll(PATIENCE_SECONDS)
            if not events:
                raise TimeoutError(f"no answer came for {PATIENCE_SECONDS} s")
            for number, _ in events:
                answer = parts.pop(number, b"") + sockets[number].recv(READ_BYTES)
                if not answer.endswith(self.ending) or not answer.startswith(GOOD):
                    parts[number] = self._part(answer)
                    continue
                now = clock()
                times.append(now - sent_at[number])
                if left > 0:
                    left -= 1
                    sent_at[number] = now
                    sockets[number].send(self.request)
        poller.close()
        return Rate(seconds=clock() - began_at, times=times)

    def _part(self, answer: bytes) -> bytes:
        """Give what came if more may be to come. Raises RuntimeError for what can only be another answer."""
        body = answer.partition(HEAD_END)[2]
        if not answer.startswith(GOOD) or len(HEAD_END) + len(body) >= len(self.ending):
            raise RuntimeError(f"the answer was {answer[:300]!r} instead of one that ends with {self.ending!r}")
        return answer


def _first_answer(host: str, port: int, path: str, body: bytes) -> tuple[bytes, bool]:
    give_up_at, problem = time.monotonic() + PATIENCE_SECONDS, ""
    while time.monotonic() < give_up_at:
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
            if response.status == HTTPStatus.OK:
                return text, response.getheader("Transfer-Encoding") == "chunked"
            problem = f"{response.status}: {text[:300]!r}"
        except (OSError, http.client.HTTPException) as error:
            problem = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"nobody answered with 200 within {PATIENCE_SECONDS} s; the last answer was {problem}")
