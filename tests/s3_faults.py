"""Making an S3 server fail as real ones do, on request."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Application = Callable[..., Iterable[bytes]]

_SLOW_PIECE_BYTES = 64 * 1024


@dataclass(slots=True, kw_only=True)
class _Fault:
    method: str
    matching: str  # a part of path and query
    times: int
    answer: Callable[["Faults", dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Faults:
    """A WSGI application around another, which it lets answer unless a fault is due.

    Each fault happens to the next requests with this method whose path and query match, as many times as it says.
    """

    def __init__(self, application: Application) -> None:
        self.requests: list[tuple[str, str, str | None]] = []  # method, path and query, range; since the last clear
        self._application = application
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Let everything succeed again."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def refuse(
        self, status: str, code: str, *, times: int = 1, method: str = "GET", matching: str = "", message: str = ""
    ) -> None:
        """Answer with an error: `503 Slow Down`, `SlowDown`."""
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()

        def answer(_: "Faults", __: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]

        self._add(method, matching, times, answer)

    def cut(self, after_bytes: int, *, times: int = 1, matching: str = "", is_length_told: bool = True) -> None:
        """Close the connection after so many bytes of the body."""
        self._add(
            "GET", matching, times, lambda us, environ, start: us._cut(environ, start, after_bytes, is_length_told)
        )

    def trickle(self, let_go: Callable[[], object], *, times: int = 1, matching: str = "") -> None:
        """Give the body in pieces, and do something (that takes time) before each."""
        self._add("GET", matching, times, lambda us, environ, start: us._trickle(environ, start, let_go))

    def rewrite(self, pattern: bytes, replacement: bytes, *, times: int = 1, matching: str = "") -> None:
        """Replace something in the body, as a regular expression has it."""

        def answer(us: "Faults", environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            status, headers, body = us._real_answer(environ)
            body = re.sub(pattern, replacement, body)
            start(status, [*_without_length(headers), ("Content-Length", str(len(body)))])
            return [body]

        self._add("GET", matching, times, answer)

    def before(self, act: Callable[[], object], *, times: int = 1, method: str = "GET", matching: str = "") -> None:
        """Do something before the answer."""

        def answer(us: "Faults", environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            act()
            return us._application(environ, start)

        self._add(method, matching, times, answer)

    def strip(self, *names: str, times: int = 1, matching: str = "") -> None:
        """Answer as if requests had not these headers (by their WSGI names)."""

        def answer(us: "Faults", environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            return us._application({name: value for name, value in environ.items() if name not in names}, start)

        self._add("GET", matching, times, answer)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        where = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self._lock:
            self.requests.append((environ["REQUEST_METHOD"], where, environ.get("HTTP_RANGE")))
            fault = self._due(environ["REQUEST_METHOD"], where)
        if fault is None:
            return self._application(environ, start)
        return fault.answer(self, environ, start)

    def _add(self, method: str, matching: str, times: int, answer: Callable[..., Iterable[bytes]]) -> None:
        with self._lock:
            self._faults.append(_Fault(method=method, matching=matching, times=times, answer=answer))

    def _due(self, method: str, where: str) -> _Fault | None:
        for fault in self._faults:
            if fault.times > 0 and fault.method == method and fault.matching in where:
                fault.times -= 1
                return fault
        return None

    def _real_answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        told: list[Any] = []
        body = b"".join(self._application(environ, lambda status, headers, *_: told.extend((status, headers))))
        return told[0], told[1], body

    def _cut(
        self, environ: dict[str, Any], start: Callable[..., Any], after_bytes: int, is_length_told: bool
    ) -> Iterable[bytes]:
        status, headers, body = self._real_answer(environ)
        start(status, headers if is_length_told else _without_length(headers))
        return [body[:after_bytes]]

    def _trickle(
        self, environ: dict[str, Any], start: Callable[..., Any], let_go: Callable[[], object]
    ) -> Iterator[bytes]:
        status, headers, body = self._real_answer(environ)
        start(status, headers)
        for at in range(0, len(body), _SLOW_PIECE_BYTES):
            let_go()
            yield body[at : at + _SLOW_PIECE_BYTES]


def _without_length(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() != "content-length"]
