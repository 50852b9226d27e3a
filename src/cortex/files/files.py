"""The contract of a place where files lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """A file as it was listed."""

    url: str  # as users write it: `s3://bucket/key`, `file:///path`, or a plain path
    size_bytes: int
    version: str  # another one as soon as the content is another: an etag, or times and inode of a local file


class Files(Protocol):
    """One kind of place. Methods may be called from any thread, and retry what may pass (with backoff).

    They raise ValueError for a URL that `read_address` does not take, or that is of another kind of place.
    """

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        """Give every file whose URL begins with this text, in the order of the bytes of their URLs, page by page.

        Only those that come after the URL `after`, where one is given. URLs that end in `/` are not files. Raises
        FilesError, which says what to do, also where there is no such bucket.
        """

    def open(self, file: FileInfo) -> BinaryIO:
        """Open a file that was listed; it is read from the beginning, in order, with the next bytes read ahead.

        Raises FileChanged, at once or from any read, when it is not what was listed any more, and FilesError.
        """

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        """Give so many bytes of a file, from an offset on; it need not have been listed.

        Raises FileChanged where there is no such file, or where it ends before, and FilesError.
        """

    def write(self, url: str, data: bytes) -> None:
        """Write a file, whole or not at all; one that is there is replaced, and folders are made as needed.

        Raises FilesError; FilesUnavailable where it may succeed a little later.
        """

    def remove(self, url: str) -> None:
        """Remove a file; nothing to do where there is none. Raises what `write` does."""

    def remove_unfinished(self, folder: str) -> None:
        """Remove what writers to this folder that were killed have left, while nobody writes. Raises as `write`."""
