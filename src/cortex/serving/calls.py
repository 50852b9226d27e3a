"""A request to a RealtimeAPI, as it comes from HTTP and as it is answered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cortex.domain.errors import CortexError, NotServing, OperatorStopping, Overloaded, ReplicaDied, RequestTimedOut

Headers = Sequence[tuple[bytes, bytes]]

_RETRY_AFTER_SECONDS: Final = b"2"

_STATUS: Final[dict[type[CortexError], int]] = {
    Overloaded: 503,
    NotServing: 503,
    OperatorStopping: 503,
    ReplicaDied: 502,
    RequestTimedOut: 504,
}
"""Of the errors that a request can end with after it was taken: the same as where they are raised."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request. What of it the predictor does not name stays with the operator."""

    query: bytes  # as it came, without the `?`
    headers: Headers
    content_type: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a request: the predictor's headers and body, or why there is none."""

    status: int
    headers: Headers
    body: bytes


def refusal(error: CortexError) -> Answer:
    """Give the answer to a request that was taken and came to nothing."""
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    shown = {"kind": error.code, "message": str(error)}
    headers = [(b"content-type", b"application/json")]
    if status == 503:
        headers.append((b"retry-after", _RETRY_AFTER_SECONDS))
    return Answer(status, headers, json.dumps(shown).encode())
