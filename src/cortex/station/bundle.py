"""Unpacking what the operator has packed for nodes: a project, or a model."""

import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final

_CAN_RUN: Final = 0o100
_COPY_BYTES: Final = 1024 * 1024


class BundleDamaged(Exception):
    """A bundle is not what the operator packs."""


def unpack(bundle: Path, folder: Path) -> None:
    """Unpack a bundle into a new folder: plain files and folders, and nothing outside of it.

    Slow. Raises BundleDamaged and OSError; what is in the folder then is of no use.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(bundle) as archive:
            for entry in archive:
                _extract(archive, entry, folder)
    except tarfile.TarError as error:
        raise BundleDamaged(str(error)) from error


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    name = PurePosixPath(entry.name)
    if name.is_absolute() or ".." in name.parts:
        raise BundleDamaged(f"`{entry.name}` would lie outside")
    target = folder / name
    if entry.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    content = archive.extractfile(entry) if entry.isreg() else None
    if content is None:
        raise BundleDamaged(f"`{entry.name}` is neither a plain file nor a folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with content, target.open("xb") as file:
        shutil.copyfileobj(content, file, _COPY_BYTES)
    target.chmod(0o755 if entry.mode & _CAN_RUN else 0o644)
