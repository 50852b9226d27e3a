"""Bringing files to the disk."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


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
