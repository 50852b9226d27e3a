"""What `submit` takes, and how it becomes a job request."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import index
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, Final, Literal, Required, TypedDict

from cortex.clients.job_request import JobOptions, Prepared, WorkerRange, as_it_is, with_items, with_uploaded_items
from cortex.clients.local_files import LocalFile, Upload
from cortex.clients.operator_client import OperatorClient
from cortex.clients.sources import prepare_files
from cortex.domain.batch import MAX_BATCH_BYTES, MAX_REQUEST_BYTES
from cortex.domain.errors import InvalidSubmission
from cortex.domain.source import FileSource, SourceKind

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""One path or several: URLs (`s3://`, `gs://`, `az://`, `file://`), files or folders."""

Duration = float | str
"""A number of seconds, or a text such as `500ms`, `30s`, `5m`, `2h`, `1d`."""


class Retries(TypedDict, total=False):
    """How often `predict` is tried with a batch, the first time included, and how long it waits in between."""

    attempts: int
    backoff: Duration
    max_backoff: Duration
    no_retry: Sequence[str]  # names of exceptions that another attempt would not help


class Results(TypedDict, total=False):
    """Where the results are written besides, and how."""

    path: Required[str]
    format: Literal["jsonl", "csv", "parquet"]
    include_input: bool


class SubmitOptions(TypedDict, total=False):
    """A job: one dataset (`items`, `files` or `lines`), how it is cut, and what becomes of it.

    What is left out is as `cortex.yaml` has it; None switches off what that says.
    """

    items: Iterable[Any]  # JSON values
    files: Paths  # the items are the URLs of these files
    lines: Paths  # the items are the lines of these files, each a JSON value
    includes: Iterable[str]  # only files that match one of these globs
    excludes: Iterable[str]  # no files that match one of these globs
    batch_size: int  # how many items `predict` gets at a time; of `lines` 1 if left out
    workers: int | WorkerRange  # 1 if left out
    config: Mapping[str, Any]  # merged into that of `cortex.yaml`
    retries: int | Retries | None  # how many more attempts after the first
    batch_timeout: Duration | None  # of one call of `predict`
    timeout: Duration | None  # of the job, counted from its submission
    max_failures: int | str | None  # more failed batches than this number, or share such as `5%`, stop the job
    on_failed_batch: Literal["fail", "isolate"] | None
    results: Results | None


_DATASETS: Final = ("items", "files", "lines")
_POLICY: Final = ("retries", "batch_timeout", "timeout", "max_failures", "on_failed_batch", "results")


@contextmanager
def prepared(
    operator: OperatorClient, request: Mapping[str, Any] | None, options: SubmitOptions, key: str | None
) -> Iterator[Prepared]:
    """Make the job request, which is `request` itself or is made of the options; what it needs stays until the end.

    The same arguments with the same key give the same bytes. Raises TypeError for options that do not go together, and
    InvalidSubmission.
    """
    unknown = sorted(options.keys() - SubmitOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"submit() got an unexpected keyword argument `{unknown[0]}`")
    chosen = [name for name in _DATASETS if name in options]
    if request is not None:
        if options:
            raise TypeError(f"submit() takes `request`, which is a whole job, or `{min(options)}`, but not both")
        yield as_it_is(_encode(request, "request"))
        return
    if len(chosen) != 1:
        raise TypeError("submit() takes one dataset: `items`, `files` or `lines`")
    if "items" in options:
        if {"includes", "excludes"} & options.keys():
            raise TypeError("`includes` and `excludes` choose among files: they go with `files` and `lines`")
        with _with_items(options["items"], _job(options), _batch_size(options), key) as made:
            yield made
    else:
        yield prepare_files(operator, _job(options), _source(options))


def _job(options: SubmitOptions) -> JobOptions:
    policy = {name: value for name, value in options.items() if name in _POLICY}
    _encode(policy, "the options")
    config = options.get("config", {})
    _encode(config, "`config`")
    return JobOptions(workers=_workers(options.get("workers", 1)), config=config, policy=policy)


def _workers(asked: int | WorkerRange) -> int | WorkerRange:
    if not isinstance(asked, Mapping):
        return _whole("workers", asked)
    _encode(asked, "`workers`")  # what it says, the operator checks
    return asked


def _batch_size(options: SubmitOptions) -> int:
    if "batch_size" not in options:
        raise TypeError("submit() needs `batch_size`: how many items `predict` gets at a time")
    return _whole("batch_size", options["batch_size"])


def _whole(name: str, value: Any) -> int:
    """Check a number, which may be one of numpy's."""
    try:
        number = index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InvalidSubmission(f"`{name}`: got `{value}`, must be a whole number, at least 1")
    return number


def _source(options: SubmitOptions) -> FileSource:
    is_lines = "lines" in options
    return FileSource(
        kind=SourceKind.DELIMITED_FILES if is_lines else SourceKind.FILE_PATH_LISTER,
        paths=tuple(_paths(options["lines"] if is_lines else options["files"])),
        includes=tuple(options.get("includes", ())),
        excludes=tuple(options.get("excludes", ())),
        batch_size=1 if is_lines and "batch_size" not in options else _batch_size(options),
    )


def _paths(paths: Paths) -> list[str]:
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    found = [os.fspath(path) for path in several]
    if "" in found:  # of a variable that is empty; it would be the current folder
        raise InvalidSubmission("a path is empty", hint="`.` is the current folder")
    return found


@contextmanager
def _with_items(items: Iterable[Any], job: JobOptions, batch_size: int, key: str | None) -> Iterator[Prepared]:
    """Put the items into the request, or into a file to upload where they are too large for one."""
    if isinstance(items, str | bytes | Mapping):
        raise TypeError(f"`items` is a {type(items).__name__}, but must be a list, or another iterable, of JSON values")
    lines = _lines(items)
    taken: list[bytes] = []
    size_bytes = 0
    while size_bytes < MAX_REQUEST_BYTES and (line := next(lines, None)) is not None:
        taken.append(line)
        size_bytes += len(line) + len(",")
    inline = with_items(job, b"[" + b",".join(taken) + b"]", batch_size) if size_bytes < MAX_REQUEST_BYTES else None
    if inline is not None:
        yield inline
        return
    with tempfile.NamedTemporaryFile(prefix="cortex-items-", suffix=".jsonl") as file:
        yield with_uploaded_items(job, _upload(file, chain(taken, lines), key), batch_size)


def _upload(file: IO[bytes], lines: Iterable[bytes], key: str | None) -> Upload:
    """Write lines to a file, and name the upload of it by its content where there is a key: then it is the same."""
    digest = hashlib.sha256((key or token_hex(16)).encode())
    for line in lines:
        file.write(line + b"\n")
        digest.update(line + b"\n")
    file.flush()
    size_bytes = Path(file.name).stat().st_size
    only = LocalFile(name="items.jsonl", path=Path(file.name), size_bytes=size_bytes, version="")
    return Upload(id=digest.hexdigest()[:32], files=(only,))


def _lines(items: Iterable[Any]) -> Iterator[bytes]:
    for number, item in enumerate(items):
        line = _encode(item, f"`items[{number}]`")
        if len(line) + len("[]") >= MAX_BATCH_BYTES:
            raise InvalidSubmission(
                f"`items[{number}]` has {len(line)} bytes as JSON; an item must have less than {MAX_BATCH_BYTES}"
                " (256 KiB)",
                hint="put it into a file, and name the file in the item",
            )
        yield line


def _encode(value: Any, what: str) -> bytes:
    """Write JSON. Raises InvalidSubmission, also for numbers that JSON has no words for."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON writes as an escape
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidSubmission(
            f"{what} cannot be written as JSON: {error}",
            hint="JSON has objects, lists, text, numbers, true, false and null; arrays have a `tolist()`",
        ) from error
