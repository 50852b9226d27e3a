"""How much room folders take on the disk: a file with several names (hard links) takes it once."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's own is

_FILE: Final = np.dtype([("inode", "<u8"), ("links", "<u8"), ("bytes", "<u8")])

Usage: TypeAlias = npt.NDArray[Any]
"""The files and folders below a path, an entry for each name; all lie on one file system."""

NOTHING: Final[Usage] = np.empty(0, _FILE)


def measure(path: Path) -> Usage:
    """Look at all that is below a path, and the path itself; what vanishes meanwhile takes nothing.

    Slow for many files (a second for about 300,000). May be called from any thread.
    """
    return np.fromiter(_walk(path), _FILE)


def bytes_on_disk(usages: Iterable[Usage]) -> int:
    """Give what all of these take together."""
    files = _together(usages)
    _, firsts = np.unique(files["inode"], return_index=True)
    return int(files["bytes"][firsts].sum())


def bytes_freed(usages: Iterable[Usage]) -> int:
    """Give what would be free if all of these were removed: a file that has a name elsewhere stays."""
    files = _together(usages)
    _, firsts, names = np.unique(files["inode"], return_index=True, return_counts=True)
    once = files[firsts]
    return int(once["bytes"][names >= once["links"]].sum())


def _together(usages: Iterable[Usage]) -> Usage:
    return np.concatenate([NOTHING, *usages])


def _walk(path: Path) -> Iterator[tuple[int, int, int]]:
    waiting = [str(path)]
    try:
        yield _entry(path.lstat(), is_folder=path.is_dir())
    except OSError:
        return
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if is_folder:
                        waiting.append(entry.path)
                    yield _entry(entry.stat(follow_symlinks=False), is_folder=is_folder)
        except (FileNotFoundError, NotADirectoryError):  # removed meanwhile, or no folder
            continue


def _entry(status: os.stat_result, *, is_folder: bool) -> tuple[int, int, int]:
    # The links of a folder are its subfolders, which go with it.
    return status.st_ino, 1 if is_folder else status.st_nlink, status.st_blocks * _BLOCK_BYTES
