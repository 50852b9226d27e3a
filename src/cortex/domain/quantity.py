"""Amounts of compute, written as Kubernetes writes them: `200m`, `0.5`, `123Mi`, `129e6`."""

import re
from decimal import ROUND_CEILING, Decimal

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30}))"
    r"(?P<suffix>[eE][+-]?\d{1,2}|[KMGTPE]i|[numkKMGTPE])?",
    re.ASCII,
)

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "K": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}

_LARGEST = Decimal(2**63 - 1)
"""Kubernetes stops here too; it also keeps a short text from becoming a number with millions of digits."""


def read_cores(value: str | float) -> float:
    """Say how many cores a `cpu` is: `"200m"` is 0.2, `1` and `"1"` are 1.0.

    Raises `ValueError`, which says what was got and what is allowed.
    """
    return float(_read(value, "a number of cores, such as `1`, `0.5` or `200m`"))


def read_bytes(text: str) -> int:
    """Say how many bytes a `mem` is, rounded up: `"123Mi"` is 128974848.

    Raises `ValueError`, which says what was got and what is allowed.
    """
    number = _read(text, "a number of bytes with its unit, such as `512Mi`, `2Gi` or `129M`")
    return int(number.to_integral_value(ROUND_CEILING))


def write_bytes(count: int) -> str:
    """Write a number of bytes as `mem` is written, in the largest unit that it is a whole number of: `512Mi`."""
    whole = [suffix for suffix in ("K", "Ki", "M", "Mi", "G", "Gi", "T", "Ti") if count % int(_SUFFIXES[suffix]) == 0]
    return f"{count // int(_SUFFIXES[whole[-1]])}{whole[-1]}" if whole and count else str(count)


def show_bytes(count: int) -> str:
    """Write about how many bytes these are, as people read it: `812 B`, `51.2 GB`; a kB has 1,000."""
    size, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.95 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _read(value: str | float, allowed: str) -> Decimal:
    match = _QUANTITY.fullmatch(str(value))
    if match is None or isinstance(value, bool):
        raise ValueError(f"got `{str(value)[:60]}`, must be {allowed}")
    number, suffix = Decimal(match["number"]), match["suffix"] or ""
    if suffix in _SUFFIXES:
        number *= _SUFFIXES[suffix]
    elif suffix:
        number = number.scaleb(int(suffix[1:]))
    if number < 0:
        raise ValueError(f"got `{value}`, must not be negative")
    if number > _LARGEST:
        raise ValueError(f"got `{value}`, must be less than 2^63")
    return number
