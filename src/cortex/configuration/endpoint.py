"""Where an API may be reached: the path of its URL."""

import re

from cortex.configuration.wording import shorten

ENDPOINT_PATTERN = r"^[a-zA-Z0-9_\-./]*$"
MAX_CHARACTERS = 1000

RESERVED = ("/_cortex", "/healthz", "/metrics", "/openapi.json", "/docs")
"""The operator's own routes: no API lies at one of these or below it."""

_ALLOWED = re.compile(ENDPOINT_PATTERN)


def normalize_endpoint(text: str) -> str:
    """Return the endpoint with a leading slash and without a trailing one.

    Raises `ValueError`, which says what was got and what is allowed.
    """
    endpoint = "/" + text.removeprefix("/").removesuffix("/")
    if not _ALLOWED.fullmatch(text):
        raise ValueError(f"got `{shorten(text)}`, must consist of letters, digits and the characters `_ - . /`")
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"got {len(text)} characters, must have at most {MAX_CHARACTERS}")
    if endpoint == "/":
        raise ValueError(f"got `{text}`, must name a path below `/`, such as `/image-classifier`")
    if "//" in text:
        raise ValueError(f"got `{text}`, must not have an empty part (`//`)")
    if {".", ".."} & set(endpoint.split("/")):
        raise ValueError(f"got `{text}`, must not have `.` or `..` as a part: clients resolve them before they ask")
    for reserved in RESERVED:
        if lies_at_or_below(endpoint, reserved):
            raise ValueError(f"got `{text}`, must not be `{reserved}` or lie below it: that route is the operator's")
    return endpoint


def lies_at_or_below(endpoint: str, other: str) -> bool:
    """Say whether a request to `endpoint` could also be meant for `other`. Both are normalized."""
    return f"{endpoint}/".startswith(f"{other}/")


def overlap(first: str, second: str) -> bool:
    """Say whether two APIs cannot have these endpoints at the same time. Both are normalized."""
    return lies_at_or_below(first, second) or lies_at_or_below(second, first)
