"""Reading the URLs of files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

BUCKET_SCHEMES: Final = ("s3", "gs", "az")
MAX_CHARACTERS: Final = 16_384
"""More than any disk or bucket takes, also percent-encoded; to resolve a path takes the square of its length."""

KNOWN: Final = "s3://bucket/key, gs://bucket/key, az://container/key, file:///path or /path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a file is, or where the files are whose URLs begin like this."""

    scheme: str  # `file` for plain paths, too
    bucket: str  # empty for `file`
    key: str  # what follows the bucket; of `file` the path as it is written


def read_address(url: str) -> Address:
    """Take a URL apart; nothing in it is looked up, and nothing changed.

    Raises ValueError, which says what is wrong with it, but never repeats a password.
    """
    if not url:
        raise ValueError(f"is empty; must be {KNOWN}")
    if len(url) > MAX_CHARACTERS:
        raise ValueError(f"has {len(url)} characters; must have at most {MAX_CHARACTERS}")
    if not url.isprintable() and _is_unwritable(url):
        raise ValueError(f"`{ascii(url)[1:-1]}` has a NUL or half a character in it")
    scheme, separator, rest = url.partition("://")
    if not separator or "/" in scheme:
        return _read_path(url)
    if scheme == "file":
        return _read_file_url(url, rest)
    if scheme not in BUCKET_SCHEMES:
        raise ValueError(f"`{scheme[:20]}://` is not known; must be {KNOWN}")
    bucket, _, key = rest.partition("/")
    if "@" in bucket:
        raise ValueError(f"`{scheme}://` must not be followed by a user or password; set them in the environment")
    if not bucket:
        raise ValueError(f"`{url}` names no bucket; must be {scheme}://bucket/key")
    if not re.fullmatch(r"[\w.:$-]+", bucket, re.ASCII):
        raise ValueError(f"`{bucket}` is not the name of a bucket")
    return Address(scheme=scheme, bucket=bucket, key=key)


def key_after(base: str, after: str | None) -> str | None:
    """Give the key to start after in a bucket, whose URLs begin with `base`; None where `after` is behind them all."""
    if after is None or (not after.startswith(base) and after.encode() < base.encode()):
        return ""
    return after.removeprefix(base) if after.startswith(base) else None


def local_path(url: str) -> bytes:
    """Give the path that a plain path or a `file://` URL stands for. Raises what `read_address` does."""
    key = read_address(url).key
    return key.encode() if url.startswith("/") else unquote_to_bytes(key)


def check_paths(paths: Sequence[str]) -> None:
    """Check the syntax of the entries of a dataset.

    Raises ValueError with one line for each that is wrong; each line begins with its index: `[2]: …`.
    """
    if not paths:
        raise ValueError("must name at least one path")
    problems = [f"[{index}]: {problem}" for index, path in enumerate(paths) if (problem := _problem(path))]
    if problems:
        raise ValueError("\n".join(problems))


def _problem(url: str) -> str | None:
    try:
        read_address(url)
    except ValueError as error:
        return str(error)
    return None


def _is_unwritable(url: str) -> bool:
    return "\0" in url or any("\ud800" <= character <= "\udfff" for character in url)


def _read_path(path: str) -> Address:
    if not path.startswith("/"):
        raise ValueError(f"`{path}` is not absolute; must be {KNOWN}")
    return Address(scheme="file", bucket="", key=path)


def _read_file_url(url: str, rest: str) -> Address:
    host, slash, path = rest.partition("/")
    if "@" in host:
        raise ValueError("`file://` must not be followed by a user or password")
    if host not in ("", "localhost"):
        raise ValueError(f"`{url}` is on another machine, `{host}`; must be file:///path")
    if not slash:
        raise ValueError(f"`{url}` names no path; must be file:///path")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path) or b"\0" in unquote_to_bytes(path):
        raise ValueError(f"`{url}` has a `%` that is no `%XX`; write `%25` for the character itself")
    return Address(scheme="file", bucket="", key=slash + path)
