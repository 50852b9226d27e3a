"""How messages about a configuration quote what they found."""

from collections.abc import Iterable
from difflib import get_close_matches

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def describe_value(value: object) -> str:
    """Say what was got: "`5` (integer)", "`null`", "a map"."""
    if value is None:
        return "`null`"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    written = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shorten(written)}` ({_TYPES.get(type(value), type(value).__name__)})"


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word that was probably meant."""
    by_lower_case = {known.lower(): known for known in allowed}
    matches = get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[matches[0]] if matches else None


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean `x`?", or nothing where no word is near."""
    found = nearest(word, allowed)
    return f"; did you mean `{found}`?" if found else ""


def shorten(text: str, limit: int = 60) -> str:
    """Cut what is quoted to a readable length."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def on_one_line(text: str) -> str:
    """Escape what would break a message's line, or a terminal's."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
