"""JSON values: what a predictor gets and what it returns, read and written in the same way everywhere.

The user's environment may have msgspec, which reads fast, and orjson, which writes fast, or lack them; what is read
and written does not depend on that.
"""

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, Final

orjson: ModuleType | None
try:
    import orjson
except ImportError:  # a user's environment may lack it
    orjson = None


def _find_fast_decoder() -> Callable[[bytes], Any] | None:
    """Give the decoder of msgspec. orjson's is as fast, but makes floats of integers beyond 64 bits."""
    try:
        import msgspec.json
    except ImportError:  # a user's environment may lack it
        return None
    decode = msgspec.json.Decoder().decode
    return decode if isinstance(decode(str(2**64).encode()), int) else None  # early versions make floats, too


fast_decode = _find_fast_decoder()

_FAST: Final[int] = 0 if orjson is None else orjson.OPT_SERIALIZE_NUMPY
_AS_ROW: Final[int] = 0 if orjson is None else _FAST | orjson.OPT_APPEND_NEWLINE
_ANY_KEYS: Final[int] = 0 if orjson is None else orjson.OPT_NON_STR_KEYS  # which takes a fifth longer


def read(text: bytes) -> Any:
    """Give the value. Raises ValueError or RecursionError where it is no JSON."""
    if fast_decode is not None:
        try:
            value = fast_decode(text)
        except ValueError:  # it refuses half a surrogate pair, for example, and what is beyond all floats
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
