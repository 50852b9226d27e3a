"""The list of a Job's files, kept beside its Segments: so Batch n is the same bytes whenever it is cut again."""

from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec

from cortex.domain.layout import JobFolder
from cortex.files.files import FileInfo
from cortex.storage.files import sync_file


def write_listing(folder: JobFolder, files: Iterable[FileInfo]) -> None:
    """Write the list down, unless it is there already. Durable, whole or not at all."""
    if folder.listing.exists():
        return
    draft = folder.listing.with_suffix(".part")
    with draft.open("wb") as lines:
        for file in files:
            lines.write(msgspec.json.encode([file.url, file.size_bytes, file.version]) + b"\n")
    sync_file(draft)
    draft.replace(folder.listing)
    sync_file(folder.root)


def read_listing(folder: JobFolder, begin: int = 0) -> Iterator[FileInfo]:
    """Give the files of the list, from this index on."""
    with folder.listing.open("rb") as lines:
        for line in islice(lines, begin, None):
            url, size_bytes, version = msgspec.json.decode(line)
            yield FileInfo(url=url, size_bytes=size_bytes, version=version)
