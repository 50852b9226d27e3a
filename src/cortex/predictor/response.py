"""What a request is answered with: what `predict` returned, by its type."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cortex.predictor import json_values

HeaderPairs = Sequence[tuple[str, str]]

JSON: Final[HeaderPairs] = (("content-type", "application/json"),)
_TEXT: Final[HeaderPairs] = (("content-type", "text/plain; charset=utf-8"),)
_BYTES: Final[HeaderPairs] = (("content-type", "application/octet-stream"),)

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_HEAD_BYTES: Final = 64 * 1024
"""More than most clients take, and far less than would burst a frame."""

_OF_THE_CONNECTION: Final = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding"})
"""Whoever sends the answer on sets these."""

_IN_NO_HEADER: Final = (b"\r", b"\n", b"\0")
_STATUS_WITHOUT_BODY: Final = frozenset({204, 304})


class NoAnswer(Exception):
    """What predict returned cannot be sent."""


class Response(NamedTuple):
    """The answer to a request."""

    status: int
    headers: HeaderPairs
    body: bytes


def make_response(value: Any) -> Response:
    """Turn what predict returned into an answer.

    Text is sent as it is, and bytes are; whatever looks like Starlette's `Response` is that response; all else is JSON,
    with numpy's values as numbers and lists. Raises NoAnswer, and what the user's own objects raise.
    """
    response = _convert(value)
    if len(response.body) > MAX_BODY_BYTES:
        raise NoAnswer(f"predict returned {len(response.body)} bytes; an answer may have {MAX_BODY_BYTES} (64 MiB)")
    return response


def _convert(value: Any) -> Response:
    if isinstance(value, str):
        try:
            return Response(200, _TEXT, value.encode())
        except UnicodeEncodeError as error:
            raise NoAnswer(f"predict returned a text that cannot be sent: {error}") from error
    if isinstance(value, bytes | bytearray | memoryview):
        return Response(200, _BYTES, bytes(value))
    if hasattr(value, "status_code") and hasattr(value, "raw_headers"):
        return _take_over(value)
    try:
        return Response(200, JSON, json_values.write(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise NoAnswer(
            f"predict returned a value that is not JSON: {error}."
            " Return a JSON value, text, bytes, or a `starlette.responses.Response`"
        ) from error


def _take_over(value: Any) -> Response:
    """Read what is Starlette's, or looks like it: this environment may lack that."""
    body = getattr(value, "body", None)
    if not isinstance(body, bytes | bytearray | memoryview):
        raise NoAnswer(f"predict returned a {type(value).__name__} without a `body`; return one that holds all of it")
    status = int(value.status_code)
    if not 200 <= status <= 599:
        raise NoAnswer(f"predict returned a response with the status {status}; it must be from 200 to 599")
    headers = [(bytes(name), bytes(text)) for name, text in value.raw_headers]
    for name, text in headers:
        if any(forbidden in name + text for forbidden in _IN_NO_HEADER):
            raise NoAnswer(f"predict returned a response whose header {name!r} has a line break in it")
    if (size := sum(len(name) + len(text) for name, text in headers)) > _MAX_HEAD_BYTES:
        raise NoAnswer(f"predict returned a response with {size} bytes of headers; it may have {_MAX_HEAD_BYTES}")
    kept = [(n.decode("latin-1"), text.decode("latin-1")) for n, text in headers if n.lower() not in _OF_THE_CONNECTION]
    return Response(status, kept, b"" if status in _STATUS_WITHOUT_BODY else bytes(body))
