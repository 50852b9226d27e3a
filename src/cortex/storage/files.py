"""Bringing files to the disk."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Write a file whose bytes survive a power cut; its name does once its folder is synced, too."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())


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
