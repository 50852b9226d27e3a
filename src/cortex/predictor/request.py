"""What `predict` gets of a request: the body by its Content-Type, the query, the headers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from email.message import Message
from typing import Any, Final
from urllib.parse import parse_qsl

from cortex.domain.errors import InvalidRequest
from cortex.predictor import json_values
from cortex.predictor.forms import MultiMapping, read_multipart

_ADVICE: Final = "send another body, or name what it is in `Content-Type`"


def read_payload(body: bytes, content_type: str | None) -> Any:
    """Give the `payload` of a request: a JSON value, text, a form, or the bytes as they came.

    Without a Content-Type, or with that of a form, what is JSON is taken for it: many clients send it so. Raises
    InvalidRequest where the body is not what its Content-Type says.
    """
    if not content_type:
        return _read_undeclared(body)
    if content_type == "application/json":  # as most say
        return _read_json(body, content_type)
    try:
        return _read_declared(body, content_type)
    except InvalidRequest:
        raise
    except Exception as error:  # the standard library reads headers, and raises more than ValueError of odd ones
        raise InvalidRequest(f"the body cannot be read as `{content_type}`", hint=_ADVICE) from error


def _read_declared(body: bytes, content_type: str) -> Any:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        charset = _parameter(content_type, "charset")
        return _read_json(body if charset is None else _decode(body, charset).encode(), content_type)
    if kind == "text/plain":
        return _decode(body, _parameter(content_type, "charset") or "utf-8")
    if kind == "application/x-www-form-urlencoded":
        return _read_form(body, _parameter(content_type, "charset") or "utf-8")
    if kind.startswith("multipart/form"):
        try:
            return MultiMapping(read_multipart(body, _parameter(content_type, "boundary")))
        except (LookupError, ValueError) as error:
            raise InvalidRequest(f"the body is no form as `{content_type}` has it: {error}", hint=_ADVICE) from error
    return body


def read_query(query: str) -> MultiMapping:
    """Give the `query_params` of a request, percent-decoded."""
    return _read_pairs(query)


class Headers(Mapping[str, str]):
    """The `headers` of a request, by their names in whatever case; of one that came twice, the first."""

    def __init__(self, pairs: Iterable[Sequence[str]]) -> None:
        self._pairs = [(name.lower(), value) for name, value in pairs]
        self._first = dict(reversed(self._pairs))

    def __getitem__(self, name: str) -> str:
        """Give the value of a header."""
        return self._first[name.lower()]

    def __iter__(self) -> Iterator[str]:
        """Give the names, in lower case, in the order in which they came."""
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        """Count the names."""
        return len(self._first)

    def __repr__(self) -> str:
        """Show all of them."""
        return f"Headers({self._pairs!r})"

    def getlist(self, name: str) -> list[str]:
        """Give all values of a header, in the order in which they came."""
        return [value for other, value in self._pairs if other == name.lower()]


def _read_undeclared(body: bytes) -> Any:
    try:
        return json_values.read(body)
    except (ValueError, RecursionError):
        return body


def _read_json(body: bytes, content_type: str) -> Any:
    try:
        return json_values.read(body)
    except (ValueError, RecursionError) as error:
        what = f"not JSON, as its Content-Type `{content_type}` says: {error}" if body else "empty, which is no JSON"
        raise InvalidRequest(f"the body is {what}", hint=_ADVICE) from error


def _read_form(body: bytes, charset: str) -> Any:
    if body.startswith((b"{", b"[")):  # which a form encodes: it is JSON, of which `curl --data` says that it is a form
        with suppress(ValueError, RecursionError):
            return json_values.read(body)
    return _read_pairs(_decode(body, charset))


def _read_pairs(text: str) -> MultiMapping:
    try:
        return MultiMapping(parse_qsl(text, keep_blank_values=True))
    except ValueError as error:
        raise InvalidRequest(f"the fields cannot be read: {error}") from error


def _decode(body: bytes, charset: str) -> str:
    try:
        return body.decode(charset)
    except (LookupError, ValueError) as error:
        raise InvalidRequest(f"the body is not in `{charset}`, its charset: {error}", hint=_ADVICE) from error


def _parameter(content_type: str, name: str) -> str | None:
    message = Message()
    message["content-type"] = content_type
    found = message.get_param(name)
    return found if isinstance(found, str) and found else None
