"""The list of a Job's files, kept beside its Segments: so Batch n is the same bytes whenever it is cut again.

Where each Item is a line, the list is there before the first Segment. Where each Item is a file, it grows with the
Segments, and a cursor says how much of it belongs to them.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from cortex.domain.errors import FilesError
from cortex.domain.layout import JobFolder
from cortex.files.files import FileInfo
from cortex.storage.files import sync_file
from cortex.worker.kernel import write_all


def write_listing(folder: JobFolder, files: Iterable[FileInfo]) -> None:
    """Write the list down, unless it is there already. Durable, whole or not at all."""
    if folder.listing.exists():
        return
    draft = _draft(folder)
    with draft.open("wb") as lines:
        lines.writelines(map(_line, files))
    sync_file(draft)
    _take_for_whole(draft, folder)


class GrowingListing:
    """The list while its files become Items; nobody takes it for whole before it is finished.

    It goes on behind so many bytes: what an earlier process has listed beyond them is listed again.
    """

    def __init__(self, folder: JobFolder, begin: int) -> None:
        """Raises FilesError where there are not so many bytes any more."""
        self._folder = folder
        self._draft = _draft(folder)
        if folder.listing.exists():  # the process that finished it died before its last Segment was published
            folder.listing.replace(self._draft)
        self._draft.touch()
        if self._draft.stat().st_size < begin:
            raise FilesError(f"`{self._draft}` is cut short", hint="submit again")
        # Without a buffer: on a full disk, nothing of an earlier try may come later.
        self._file = self._draft.open("r+b", buffering=0)
        self._file.truncate(begin)
        self.size_bytes = self._file.seek(begin)

    def add(self, files: Iterable[FileInfo]) -> Sequence[int]:
        """Write these files down; give how many bytes each of them takes."""
        lines = list(map(_line, files))
        write_all(self._file.fileno(), b"".join(lines))
        lengths = list(map(len, lines))
        self.size_bytes += sum(lengths)
        return lengths

    def sync(self) -> None:
        """Bring what has been added to the disk."""
        if not self._file.closed:
            os.fdatasync(self._file)

    def finish(self) -> None:
        """Nothing more comes: from now on it is the list. Durable."""
        self.sync()
        self.close()
        _take_for_whole(self._draft, self._folder)

    def close(self) -> None:
        """Nothing more comes from here; what has been added stays."""
        self._file.close()


def _draft(folder: JobFolder) -> Path:
    return folder.listing.with_suffix(".part")


def _take_for_whole(draft: Path, folder: JobFolder) -> None:
    draft.replace(folder.listing)
    sync_file(folder.root)


def _line(file: FileInfo) -> bytes:
    return msgspec.json.encode((file.url, file.size_bytes, file.version)) + b"\n"


def read_listing(folder: JobFolder, begin: int = 0) -> Iterator[FileInfo]:
    """Give the files of the list, from this index on."""
    with folder.listing.open("rb") as lines:
        for line in islice(lines, begin, None):
            try:
                url, size_bytes, version = msgspec.json.decode(line, type=tuple[str, int, str])
            except msgspec.MsgspecError as error:
                raise FilesError(f"`{folder.listing}` is damaged: {error}", hint="submit again") from error
            yield FileInfo(url=url, size_bytes=size_bytes, version=version)
