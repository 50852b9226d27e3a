"""From a dataset here to a job request, and to what has to be uploaded for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypedDict

from cortex.answers import DryRun
from cortex.clients.local_files import Upload, absolute, is_local
from cortex.domain.batch import MAX_REQUEST_BYTES
from cortex.domain.source import FileSource, SourceKind

SHOWN_PATHS: Final = 10
"""How many paths a dry run shows."""


class WorkerRange(TypedDict):
    """As many workers as there is room for, at most `max`; all above `min` are given back while others wait."""

    min: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What a job request says besides its dataset."""

    workers: int | WorkerRange
    config: Mapping[str, Any]
    policy: Mapping[str, Any] = field(default_factory=dict)  # the other fields of a request, as they are: `retries` …

    def request(self, section: str, dataset: bytes) -> bytes:
        """Write the job request."""
        others = {"config": self.config, **self.policy} if self.config else self.policy
        rest = b"," + _json(others)[1:-1] if others else b""
        return b'{"workers":%b,"%b":%b%b}' % (_json(self.workers), section.encode(), dataset, rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A job request, and what is to be done for it first."""

    request: bytes
    upload: Upload | None = None
    dry_request: bytes | None  # the same without what is uploaded; None where nothing else is in it
    counted: DryRun | None = None  # what is uploaded, as a dry run shows it


def as_it_is(request: bytes) -> Prepared:
    """Prepare a job request that somebody has written."""
    return Prepared(request=request, dry_request=request)


def with_items(job: JobOptions, items: bytes, batch_size: int) -> Prepared | None:
    """Prepare a request that holds its items, a JSON list; None where that would be too large."""
    request = job.request("item_list", b'{"batch_size":%d,"items":%b}' % (batch_size, items))
    return as_it_is(request) if len(request) < MAX_REQUEST_BYTES else None


def with_files(job: JobOptions, source: FileSource) -> Prepared:
    """Prepare a request whose files the operator reads where they are; paths here are made absolute."""
    paths = tuple(absolute(path) if is_local(path) else path for path in source.paths)
    return as_it_is(_file_request(job, replace(source, paths=paths)))


def with_uploaded_files(
    job: JobOptions, source: FileSource, upload: Upload, *, root: str, item_count: int | None = None
) -> Prepared:
    """Prepare a request whose local files, which lie below `root`, are uploaded; URLs stay as they are.

    The upload holds only what the filters have let through, by the names that the files have here.
    """
    paths = tuple(
        upload.url(absolute(path).removeprefix(root)) if is_local(path) else path  # in the order that was asked for
        for path in source.paths
    )
    remote = tuple(path for path in source.paths if not is_local(path))
    if remote:
        # The operator matches where it has put them, which is a folder of the upload's name.
        includes = (*source.includes, f"**/{upload.id}/**") if source.includes else ()
        uploaded = replace(source, paths=paths, includes=includes)
    else:
        uploaded = replace(source, paths=paths, includes=(), excludes=())
    return Prepared(
        request=_file_request(job, uploaded),
        upload=upload,
        dry_request=_file_request(job, replace(source, paths=remote)) if remote else None,
        counted=_count(source, upload, item_count),
    )


def with_uploaded_items(job: JobOptions, upload: Upload, batch_size: int) -> Prepared:
    """Prepare a request for items that are the lines of the one file of an upload."""
    paths = tuple(upload.url(file.name) for file in upload.files)
    source = FileSource(kind=SourceKind.DELIMITED_FILES, paths=paths, batch_size=batch_size)
    return Prepared(request=_file_request(job, source), upload=upload, dry_request=None)


def _file_request(job: JobOptions, source: FileSource) -> bytes:
    filters = {"includes": source.includes, "excludes": source.excludes}
    section = {"s3_paths": source.paths, "batch_size": source.batch_size}
    return job.request(source.kind.value, _json(section | {name: globs for name, globs in filters.items() if globs}))


def _count(source: FileSource, upload: Upload, item_count: int | None) -> DryRun:
    items = len(upload.files) if source.kind is SourceKind.FILE_PATH_LISTER else item_count
    return {
        "files": len(upload.files),
        "bytes": upload.total_bytes,
        "items": items,
        "batches": None if items is None else -(-items // source.batch_size),
        "paths": [str(file.path) for file in upload.files[:SHOWN_PATHS]],
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
