"""JSON values: what a predictor gets and what it returns, read and written in the same way everywhere.

The user's environment may have orjson, which is fast, or lack it; what is read and written does not depend on that.
"""

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

orjson: ModuleType | None
try:
    import orjson
except ImportError:  # a user's environment may lack it
    orjson = None

_FAST: Final[int] = 0 if orjson is None else orjson.OPT_SERIALIZE_NUMPY
_AS_ROW: Final[int] = 0 if orjson is None else _FAST | orjson.OPT_APPEND_NEWLINE
_ANY_KEYS: Final[int] = 0 if orjson is None else orjson.OPT_NON_STR_KEYS  # which takes a fifth longer

_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"0123456789", b"0" * 10)
_LONG_NUMBER: Final = b"0" * 19
_EVERY_FOURTH: Final = slice(None, None, 4)
_FOURTH_OF_LONG_NUMBER: Final = b"0" * 4
_BEFORE_INTEGER: Final = b"[,:- \t\r\n"


def read(text: bytes) -> Any:
    """Give the value. Raises ValueError or RecursionError where it is no JSON."""
    # The fast decoder turns integers beyond 64 bits into floats, and refuses half a surrogate pair.
    if orjson is not None and not _has_long_number(text):
        try:
            value = orjson.loads(text)
        except ValueError:
            pass
        else:
            return value
    return json.loads(text)


def write(value: Any) -> bytes:
    """Give a value as JSON, NaN as null. Raises TypeError, ValueError or RecursionError where it has no such form."""
    if orjson is not None:
        try:
            fast: bytes = orjson.dumps(value, None, _FAST)
        except TypeError:  # keys that are no strings, or integers beyond 64 bits, for example
            pass
        else:
            return fast
    return _write(value)


def write_lines(values: Iterable[Any]) -> bytes:
    """Give each value as a line of JSON. Raises like `write`."""
    if orjson is not None:
        dumps = orjson.dumps
        try:
            return b"".join([dumps(value, None, _AS_ROW) for value in values])
        except TypeError:
            pass
    return b"".join([_write(value) + b"\n" for value in values])


def _write(value: Any) -> bytes:
    if orjson is not None:
        with suppress(TypeError):  # what nothing knows is refused below
            fast: bytes = orjson.dumps(value, None, _FAST | _ANY_KEYS)
            return fast
    try:
        return _slow_dumps(value)
    except ValueError:  # what is no number in JSON
        return _slow_dumps(_without_nan(value))


def _slow_dumps(value: Any) -> bytes:
    options: dict[str, Any] = {"separators": (",", ":"), "allow_nan": False, "default": _as_list}
    try:
        return json.dumps(value, **options, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only escape
        return json.dumps(value, **options).encode()


def _as_list(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def _without_nan(value: Any) -> Any:
    """Make NaN and infinities null, as the fast encoder does."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return _without_nan(value.tolist()) if hasattr(value, "tolist") else value


def _has_long_number(payload: bytes) -> bool:
    """Tell whether an integer of 19 digits may be there: none that is shorter is beyond 64 bits.

    So many digits cover four bytes that are four apart, so most payloads are told by a fourth of their bytes. By fewer
    it is seldom told: decimals such as `[0.5,1.25,99.75]` have three digits that are six apart.
    """
    if _FOURTH_OF_LONG_NUMBER not in payload[_EVERY_FOURTH].translate(_DIGITS_AS_ZEROS):
        return False
    zeros = payload.translate(_DIGITS_AS_ZEROS)
    at = zeros.find(_LONG_NUMBER)
    while at > 0 and payload[at - 1] not in _BEFORE_INTEGER:  # of a fraction, or of a text
        at = zeros.find(_LONG_NUMBER, at + len(_LONG_NUMBER))
    return at >= 0
