"""What an operator is told when it starts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from cortex.domain.errors import StartRefused
from cortex.domain.retention import KeepJobs
from cortex.domain.silence import DEFAULT_HEARTBEAT_SECONDS

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}

DEFAULT_KEEP_JOBS: Final = "30d,1000"
DEFAULT_GRACE_SECONDS: Final = 10.0
DEFAULT_STALL_SECONDS: Final = 60.0
_LARGEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `cortex operator`."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8888
    api_key: str | None = field(default=None, repr=False)  # what is asked of every caller
    public_url: str | None = None  # of a proxy in front of it
    engine: str = "processes"
    keep_warm_seconds: float = 60.0
    heartbeat_seconds: float = DEFAULT_HEARTBEAT_SECONDS
    grace_seconds: float = DEFAULT_GRACE_SECONDS
    stall_seconds: float = DEFAULT_STALL_SECONDS
    log_limit_bytes: int = 256 * 10**6
    keep_jobs: KeepJobs = field(default_factory=lambda: parse_keep_jobs(DEFAULT_KEEP_JOBS))
    disk_budget_bytes: int | None = None  # what the data directory may have; None: as much as there is
    log_sink: str | None = None  # `stdout`, or the URL of a folder
    allowed_paths: tuple[Path, ...] | None = None  # the folders whose files datasets may name; None for all
    max_upload_bytes: int = 10 * 10**9
    ray_address: str | None = None  # of the Ray that runs the workers; None: as Ray finds it
    channel_host: str | None = None  # where stations of workers elsewhere connect; None: the host
    channel_port: int = 0  # 0 is any that is free
    channel_address: str | None = None  # HOST or HOST:PORT that they are told instead, where they come by another way
    storage: Mapping[str, Any] | None = None  # where nodes and operator leave data for each other: see StationOrder
    ready_fd: int | None = None  # the address is written here once the operator listens; then it is closed


def parse_size(text: str) -> int:
    """Read a number of bytes: `1000000`, `256MB`, `256 MiB`, `1.5G`.

    Raises StartRefused where the text is no such number.
    """
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([KMGT]I?|)B?\s*", text.upper(), re.ASCII)
    if match is None:
        raise StartRefused(f"`{text}` is not a size", hint="write it as 256MB, 1GiB or a number of bytes")
    return int(float(match[1]) * _UNITS[match[2]])


_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600, "w": 7 * 24 * 3600}
_LONGEST_AGE_SECONDS = 100 * 365 * 24 * 3600


def parse_keep_jobs(text: str) -> KeepJobs:
    """Read how long ended Jobs are kept: an age (`30d`, `12h`), a number (`1000`), both (`30d,1000`), or `all`.

    Raises StartRefused where the text is none of these.
    """
    parts = [part.strip().lower() for part in text.split(",")]
    if parts == ["all"]:
        return KeepJobs()
    ages = [age for part in parts if (age := _read_age(part)) is not None]
    counts = [int(part) for part in parts if re.fullmatch(r"0*[1-9]\d{0,11}", part, re.ASCII)]
    if len(ages) + len(counts) != len(parts) or len(ages) > 1 or len(counts) > 1:
        raise StartRefused(
            f"--keep-jobs: `{text}` does not say how long ended jobs are kept",
            hint="write an age (`30d`, `12h`), a number of jobs (`1000`), both (`30d,1000`), or `all`",
        )
    return KeepJobs(age=ages[0] if ages else None, count=counts[0] if counts else None)


def _read_age(text: str) -> timedelta | None:
    match = re.fullmatch(r"0*([1-9]\d{0,8})([smhdw])", text, re.ASCII)
    seconds = int(match[1]) * _AGE_SECONDS[match[2]] if match else 0
    return timedelta(seconds=seconds) if 0 < seconds <= _LONGEST_AGE_SECONDS else None


def parse_log_sink(text: str) -> str:
    """Read where logs go besides: `stdout`, `s3://bucket/prefix`, `file:///path`. Raises StartRefused for others."""
    if text == "stdout" or re.fullmatch(r"(s3|gs|az)://[^/]+(/.*)?|file:///.+", text):
        return text
    shown = re.sub(r"//.*@", "//...@", text)  # what stands there may be a password
    raise StartRefused(
        f"--log-sink: `{shown}` is no place for logs", hint="use stdout, s3://bucket/prefix or file:///folder"
    )


def parse_public_url(text: str) -> str:
    """Read the URL by which a proxy in front of the operator is reached. Raises StartRefused for others."""
    server = r"(https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[1-9][0-9]{0,4})?)/?"
    match = re.fullmatch(server, text.strip().lower())
    try:
        is_valid = match is not None and urlsplit(match[1]).port != 0
    except ValueError:  # a port, or an address in brackets, that cannot be one
        is_valid = False
    if match is None or not is_valid:
        shown = re.sub(r"//.*@", "//...@", text)  # what stands there may be a password
        raise StartRefused(
            f"--public-url: `{shown}` is not the URL of a server", hint="write it as https://HOST or https://HOST:PORT"
        )
    return match[1]


def parse_storage(text: str) -> Mapping[str, Any]:
    """Read where nodes and operator leave data for each other: a folder that all see, or `s3://bucket/prefix`.

    Gives what stations are told. Raises StartRefused for anything else.
    """
    if re.fullmatch(r"(s3|gs|az)://[^/]+(/.*)?", text):
        return {"kind": "object", "url": text.rstrip("/")}
    path = text.removeprefix("file://")
    if Path(path).is_absolute():
        return {"kind": "directory", "path": str(Path(path))}
    shown = re.sub(r"//.*@", "//...@", text)  # what stands there may be a password
    raise StartRefused(
        f"--storage: `{shown}` is no place that other machines can reach",
        hint="use s3://bucket/prefix, or the absolute path of a folder that all machines see at that path",
    )


def parse_channel_address(text: str) -> str:
    """Read the HOST or HOST:PORT by which other machines reach the channel. Raises StartRefused for others."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([1-9][0-9]{0,4}))?", text)
    if match is None or int(match[2] or 1) > _LARGEST_PORT:
        raise StartRefused(
            f"--channel-address: `{text}` is no address of this machine", hint="write it as HOST or HOST:PORT"
        )
    return text
