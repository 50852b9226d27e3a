"""What is sent to a RealtimeAPI, and what it answers. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Final

from cortex.answers import ApiSummary
from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import InvalidRequest

JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer of a RealtimeAPI, as it came."""

    content_type: str
    body: bytes

    @property
    def is_json(self) -> bool:
        """Whether its predictor returned a value that is neither text nor bytes."""
        return _media_type(self.content_type) == JSON

    @property
    def is_text(self) -> bool:
        """Whether it can be shown to a person."""
        return self.is_json or self.content_type.startswith("text/")

    def value(self) -> Any:
        """Give what `predict` returned: text, bytes, or what JSON can say."""
        if self.is_json:
            return json.loads(self.body)
        return self.body.decode(errors="replace") if self.is_text else self.body


def encode(payload: Any, content_type: str | None = None) -> tuple[bytes, str]:
    """Give the body that a predictor reads as this payload, and its Content-Type.

    Bytes are sent as they are, text too where it is given another type than JSON; everything else is JSON. Raises
    InvalidRequest for what cannot be.
    """
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), content_type or OCTETS
    if isinstance(payload, str) and content_type is not None and _media_type(content_type) != JSON:
        return payload.encode(), content_type
    try:
        return json.dumps(payload, allow_nan=False).encode(), content_type or JSON
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the payload is neither bytes nor JSON: {error}") from error


def check_takes_jobs(api: ApiSummary, *, hint: str) -> ApiSummary:
    """Give an API that makes jobs of what it gets. Raises InvalidRequest for another, with this hint."""
    if api["kind"] != ApiKind.BATCH:
        raise InvalidRequest(f"`{api['name']}` is a {api['kind']}: it has no jobs", hint=hint)
    return api


def check_answers_at_once(api: ApiSummary, *, hint: str) -> ApiSummary:
    """Give an API that answers requests. Raises InvalidRequest for another, with this hint."""
    if api["kind"] == ApiKind.BATCH:
        raise InvalidRequest(f"`{api['name']}` is a {ApiKind.BATCH}: it takes jobs, and no single requests", hint=hint)
    return api


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
