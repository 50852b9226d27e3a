"""Reading the payload of a Lease where it lies, because it did not come with the Lease."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cortex.domain.checksum import crc32
from cortex.domain.errors import FilesError
from cortex.files.address import local_path
from cortex.files.files import Files
from cortex.files.patience import Patience
from cortex.files.places import AllFiles
from cortex.station.in_time import InTime, NotInTime
from cortex.worker.source import SourceChanged, SourceFile

HURRIED: Final = Patience(attempts=3, connect_timeout_seconds=3.0, read_timeout_seconds=5.0)
"""The operator has it too: what a storage does not give soon comes from there."""


class Unfetched(Exception):
    """What a Lease is about cannot be read where it was said to be, or is something else."""


@dataclass(slots=True, kw_only=True)
class StoredPayloads:
    """See the module. For one thread at a time."""

    files: Files = field(default_factory=lambda: AllFiles(patience=HURRIED))
    in_time: InTime = field(default_factory=InTime)

    def read(self, payload: Mapping[str, Any], offsets: Sequence[int], checksums: Sequence[int]) -> bytes:
        """Give the bytes that the payload of a `lease` frame refers to, or give up in time.

        They are what the operator has: `offsets` say where each Batch begins, and where the last one ends, `checksums`
        are those of the Batches. A file of the user's has none, and must be the one that the operator has seen.
        Raises Unfetched.
        """
        try:
            data: bytes = self.in_time.call(lambda: self._read(payload))
        except (FilesError, NotInTime) as error:
            raise Unfetched(str(getattr(error, "message", error))) from error
        except (OSError, SourceChanged) as error:
            raise Unfetched(f"{_shown(payload)} is not there as the operator has it") from error
        except ValueError as error:
            raise Unfetched(f"it is nowhere: {error}") from error
        if not len(data) == payload["bytes"] == offsets[-1]:
            raise Unfetched(f"{_shown(payload)} has {len(data)} bytes, and not {payload['bytes']}")
        _check(data, offsets, checksums, lambda: _shown(payload))
        return data

    def _read(self, payload: Mapping[str, Any]) -> bytes:
        if "facts" in payload:
            return _read_source(*payload["pieces"][0], *payload["facts"])
        return b"".join(self.files.read_range(url, offset, length) for url, offset, length in payload["pieces"])


def _read_source(url: str, offset: int, length: int, size: int, mtime_ns: int, inode: int) -> bytes:
    """Read a part of a file of the user's. Raises SourceChanged and OSError."""
    path = os.fsdecode(local_path(url))
    source = SourceFile(path=path, size=size, mtime_ns=mtime_ns, inode=inode, base=0)
    file = source.open()
    try:
        data = os.pread(file, length, offset)
        source.check(file)  # afterwards, so that what has been read is what it was
    finally:
        os.close(file)
    return data


def _check(data: bytes, offsets: Sequence[int], checksums: Sequence[int], shown: Callable[[], str]) -> None:
    """Raise Unfetched unless these are the bytes of the Batches: another file may be at the same place."""
    if not checksums:
        return
    with memoryview(data) as view:
        for begin, end, checksum in zip(offsets[:-1], offsets[1:], checksums, strict=True):
            if crc32(view[begin:end]) != checksum:
                raise Unfetched(f"{shown()} is not what the operator has there")


def _shown(payload: Mapping[str, Any]) -> str:
    return f"`{payload['pieces'][0][0]}`"
