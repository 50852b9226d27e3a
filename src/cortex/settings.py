"""What an operator is told when it starts."""

import re
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.errors import StartRefused

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `cortex operator`."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8888
    engine: str = "processes"
    keep_warm_seconds: float = 60.0
    log_limit_bytes: int = 256 * 10**6
    ready_fd: int | None = None  # the address is written here once the operator listens; then it is closed


def parse_size(text: str) -> int:
    """Read a number of bytes: `1000000`, `256MB`, `256 MiB`, `1.5G`.

    Raises StartRefused where the text is no such number.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?\s*", text.upper())
    if match is None:
        raise StartRefused(f"`{text}` is not a size", hint="write it as 256MB, 1GiB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2]])
