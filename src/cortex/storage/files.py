"""Bringing files to the disk."""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cortex.domain.errors import StorageFailed, StorageFull

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk that has no room until some is made."""

NO_ROOM: Final = (*FULL, errno.EFBIG)
"""The errors of a disk that takes nothing more."""

_BROKEN: Final = (errno.EROFS, errno.EIO)


def disk_full() -> StorageFull:
    """Say that there is no room for what is to be remembered."""
    return StorageFull("the operator's disk is full", hint="have space made on it, and try again")


def disk_failed(reason: str) -> StorageFailed:
    """Say that the disk takes nothing, although it may have room."""
    return StorageFailed(
        f"the operator cannot write to its disk: {reason}", hint="have it mended, or made writable, and try again"
    )


@contextmanager
def told_if_full() -> Iterator[None]:
    """Raise StorageFull, or StorageFailed, where the disk takes nothing: whoever asked is to know.

    It is no failure of ours.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full() from error
        if error.errno in _BROKEN:
            raise disk_failed(str(error.strerror)) from error
        raise


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whose bytes survive a power cut; its name does once its folder is synced, too."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


def remove_at_once(folders: Iterable[Path]) -> None:
    """Remove folders, each from one moment to the next: whoever looks finds it whole or not at all. Slow."""
    for folder in folders:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.removed")), ignore_errors=True)


def remove_folders(folders: Iterable[Path]) -> None:
    """Remove folders with all that is in them. Slow for large ones."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def sync_file(path: Path) -> None:
    """Bring the bytes of a file, or the names in a folder, to the disk; nothing to do for one that is not there."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(file)
    finally:
        os.close(file)
