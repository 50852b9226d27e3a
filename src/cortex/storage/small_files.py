"""The files of a small Job, which the ledger keeps until they are on the disk: see Ledger.unsynced.

They are written before the ledger's commit, and not synced: nobody has to look into the ledger for them but after a
power cut. A larger Job has its files synced instead, before that commit.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex.domain.batch import MAX_SEGMENT_BATCHES
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.files import sync_files
from cortex.storage.ledger import Ledger, UnsyncedFile
from cortex.storage.segments import index_of, write_segments

_MOST_BYTES: Final = 64 * 1024
"""What the files of a Job may have together: more is synced sooner than it is written twice."""

_MOST_FILES: Final = 32
_BYTES_PER_BATCH: Final = 9  # of offset, checksum and state

_STATES: Final = ".states"
_RESULTS: Final = (".rows", ".index")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The Batches of a Job that are written: its Segments, and those of their files that are not synced."""

    segments: Sequence[SegmentRange] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def is_small(batches: Sequence[bytes]) -> bool:
    """Tell whether Batches are written down with their Job, so that none of their files is synced."""
    return 0 < sum(map(len, batches)) + _BYTES_PER_BATCH * len(batches) <= _MOST_BYTES


def write_dataset(folder: JobFolder, batches: Sequence[bytes]) -> Dataset:
    """Write the Batches of a Job, each of which is its JSON array: durably, but for what is small."""
    if not is_small(batches):
        return Dataset(segments=write_segments(folder, batches))
    assert len(batches) <= MAX_SEGMENT_BATCHES  # noqa: S101 - they are fewer than their bytes
    written = [
        (folder.payload(0), b"".join(batches)),
        (folder.offsets(0), index_of(batches)),
        (folder.states(0), bytes(len(batches))),
    ]
    for directory in (folder.root, folder.segments, folder.workers):
        directory.mkdir()
    for path, content in written:
        path.write_bytes(content)
    files = {f"{path.parent.name}/{path.name}": content for path, content in written}
    return Dataset(segments=[SegmentRange(number=0, first=0, count=len(batches))], files=files)


def read_results(folder: JobFolder) -> Mapping[str, bytes] | None:
    """Give states, rows and indexes of a Job whose Workers are gone; None where they are not small, or not there."""
    found: dict[str, str] = {}
    size = 0
    try:
        for directory, suffixes in ((folder.segments, _STATES), (folder.workers, _RESULTS)):
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.endswith(suffixes):
                        found[f"{directory.name}/{entry.name}"] = entry.path
                        size += entry.stat().st_size
                    if size > _MOST_BYTES or len(found) > _MOST_FILES:
                        return None
        return {name: Path(path).read_bytes() for name, path in found.items()}
    except FileNotFoundError:
        return None


def sync_unsynced(root: Path, files: Sequence[UnsyncedFile]) -> None:
    """Bring these files of Jobs to the disk, with their folders. Slow; what is not there any more needs nothing."""
    folders = {JobFolder(root / file.job_id) for file in files}
    directories = [path for folder in folders for path in (folder.segments, folder.workers, folder.root)]
    sync_files([root / file.job_id / file.name for file in files] + directories + [root])


def write_again(root: Path, ledger: Ledger) -> None:
    """Write the files that the ledger has kept, after a power cut. May be repeated; no Worker may be there yet."""
    for file in ledger.unsynced():
        folder, content = JobFolder(root / file.job_id), ledger.unsynced_bytes(file)
        for directory in (folder.segments, folder.workers):
            directory.mkdir(parents=True, exist_ok=True)
        path = folder.root / file.name
        there = path.read_bytes() if path.exists() else b""
        if path.suffix == _STATES and len(there) == len(content):
            content = bytes(new or old for new, old in zip(there, content, strict=True))  # no ending is undone
        if there != content:
            path.write_bytes(content)
