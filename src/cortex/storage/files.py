"""Bringing files to the disk."""

import errno
import fcntl
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cortex.domain.errors import StorageFailed, StorageFull
from cortex.worker.kernel import sync_file_system

_ONE_BY_ONE: Final = 32
"""So many files are synced by themselves; of more, each would cost more than what others have written there."""

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk that has no room until some is made."""

NO_ROOM: Final = (*FULL, errno.EFBIG)
"""The errors of a disk that takes nothing more."""

_FLAGS: Final = struct.Struct("@I")
_GET_FLAGS, _SET_FLAGS, _ARE_UNRELATED = 0x80086601, 0x40086602, 0x00020000  # of linux/fs.h, for 64 bits

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


def spread_folders(folder: Path) -> None:
    """Tell the file system that the folders in this one have nothing to do with each other, as `chattr +T` does.

    Else ext4 puts all of them where files were removed shortly before, and has to pass over those one by one for every
    file that is new: a third of a millisecond each. Others know no such thing, and nothing is changed.
    """
    file = os.open(folder, os.O_RDONLY)
    try:
        flags = bytearray(_FLAGS.size)
        with suppress(OSError):
            fcntl.ioctl(file, _GET_FLAGS, flags)
            (known,) = _FLAGS.unpack(flags)
            fcntl.ioctl(file, _SET_FLAGS, _FLAGS.pack(known | _ARE_UNRELATED))
    finally:
        os.close(file)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whose bytes survive a power cut; its name does once its folder is synced, too."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Write a file that whoever reads it finds whole, as it was or as it is; a power cut may take it."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def remove_at_once(folders: Iterable[Path]) -> None:
    """Remove folders, each from one moment to the next: whoever looks finds it whole or not at all. Slow."""
    for folder in folders:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.removed")), ignore_errors=True)


def remove_folders(folders: Iterable[Path]) -> None:
    """Remove folders with all that is in them. Slow for large ones."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def is_still_at(descriptor: int, path: Path) -> bool:
    """Tell whether a file that is open is still the one at this path: what is removed and made anew is another."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


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


def sync_files(paths: Sequence[Path]) -> None:
    """Bring the bytes of files, and the names in folders, to the disk; all that is on it where they are many.

    There is nothing to do for one that is not there. Slow.
    """
    if len(paths) <= _ONE_BY_ONE or not sync_file_system(paths[-1]):
        for path in paths:
            sync_file(path)
