"""Spans of time as users write them: `500ms`, `30s`, `5m`, `2h`, `1d`, `1h30m`, or a number of seconds."""

import re
from decimal import Decimal
from typing import Final

LONGEST_SECONDS: Final = 100 * 365 * 24 * 3600

_NUMBER: Final = r"\d{1,30}(?:\.\d{1,30})?"
_DURATION: Final = re.compile(rf"{_NUMBER}|(?:{_NUMBER}(?:ms|[smhd])){{1,10}}", re.ASCII)
_SPAN: Final = re.compile(rf"({_NUMBER})(ms|[smhd])?", re.ASCII)

_SECONDS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(24 * 3600),
}


def read_duration(value: str | float) -> float:
    """Say how many seconds a duration has: `"500ms"` is 0.5; `30`, `"30"` and `"30s"` are 30.0, `"1m30s"` is 90.0.

    Raises `ValueError`, which says what was got and what is allowed.
    """
    seconds: Decimal | float
    if isinstance(value, str):
        if _DURATION.fullmatch(value) is None:
            allowed = "a number of seconds, or text such as `500ms`, `30s`, `5m`, `2h` or `1d`"
            raise ValueError(f"got `{value[:60]}`, must be {allowed}")
        seconds = sum((Decimal(number) * _SECONDS[unit or "s"] for number, unit in _SPAN.findall(value)), Decimal())
    else:
        seconds = value
    if not seconds >= 0:  # NaN is neither
        raise ValueError(f"got `{str(value)[:60]}`, must not be negative")
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"got `{str(value)[:60]}`, must be at most `{write_duration(LONGEST_SECONDS)}` (100 years)")
    return float(seconds)


def write_duration(seconds: float) -> str:
    """Write a number of seconds in the largest unit that it is a whole number of: `5m`, `90s`, `500ms`."""
    exact = Decimal(repr(seconds))
    whole = [unit for unit, size in _SECONDS.items() if exact and exact % size == 0]
    return f"{int(exact / _SECONDS[whole[-1]])}{whole[-1]}" if whole else f"{exact.normalize():f}s"
