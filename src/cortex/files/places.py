"""All kinds of places where files lie, behind one face."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from cortex.files.address import read_address
from cortex.files.files import FileInfo, Files
from cortex.files.folder import FolderFiles
from cortex.files.patience import Patience


def imports_for(urls: Iterable[str]) -> tuple[str, ...]:
    """Name the modules that take long to import and are needed for these URLs, and leave a process fit to fork."""
    return ("cortex.files.s3",) if any(url.startswith("s3://") for url in urls) else ()


class AllFiles:
    """Files of any URL: each scheme's own keeper is made when it is first asked for.

    Raises ValueError for a URL that `read_address` does not take. `allowed` are the local folders that may be used;
    None of them means all.
    """

    def __init__(self, *, allowed: tuple[Path, ...] | None = None, patience: Patience | None = None) -> None:
        self._allowed = allowed
        self._patience = patience
        self._made: dict[Callable[[], Files], Files] = {}
        self._making = threading.Lock()

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        """Keep the contract."""
        return self._place(prefix).list(prefix, after=after)

    def open(self, file: FileInfo) -> BinaryIO:
        """Keep the contract."""
        return self._place(file.url).open(file)

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        """Keep the contract."""
        return self._place(url).read_range(url, offset, length)

    def write(self, url: str, data: bytes) -> None:
        """Keep the contract."""
        self._place(url).write(url, data)

    def remove(self, url: str) -> None:
        """Keep the contract."""
        self._place(url).remove(url)

    def remove_unfinished(self, folder: str) -> None:
        """Keep the contract."""
        self._place(folder).remove_unfinished(folder)

    def _place(self, url: str) -> Files:
        makers: dict[str, Callable[[], Files]] = {
            "file": self._make_folder,
            "s3": self._make_s3,
            "gs": self._make_object_stores,
            "az": self._make_object_stores,
        }
        maker = makers[read_address(url).scheme]
        with self._making:
            if maker not in self._made:
                self._made[maker] = maker()
            return self._made[maker]

    def _make_folder(self) -> Files:
        return FolderFiles(allowed=self._allowed)

    def _make_s3(self) -> Files:
        # boto3 takes a quarter of a second and 30 MB; an operator that is never asked for S3 goes without.
        from cortex.files.s3 import S3Files  # noqa: PLC0415, RUF100

        return S3Files(patience=self._patience)

    def _make_object_stores(self) -> Files:
        # The same holds for obstore.
        from cortex.files.object_stores import ObjectStoreFiles  # noqa: PLC0415, RUF100

        return ObjectStoreFiles(patience=self._patience)
