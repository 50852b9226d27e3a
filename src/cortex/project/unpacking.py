"""Unpack a project that a client sent: hostile until checked.

Every entry is checked before the first byte is written, and the bytes are counted as they come out, whatever the
archive says about itself.
"""

import errno
import hashlib
import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cortex.domain.errors import InvalidProject
from cortex.project.rules import MAX_BYTES, MAX_FILES, find_path_problem, in_mebibytes

_ENCRYPTED = 0x1
_END_OF_DIRECTORY = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_END_BYTES = 22
_ZIP64_LOCATOR_BYTES = 20
_MAX_COMMENT_BYTES = 65535
_MAX_DIRECTORY_BYTES = MAX_FILES * 2048
_CHUNK_BYTES = 1024 * 1024

_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises for archives that it cannot read, besides the operating system's EINVAL for wild offsets."""


def unpack(zip_path: Path, folder: Path) -> str:
    """Unpack a project into `folder`, which must be empty or not exist yet, and return the id of its content.

    The same paths, executable bits and contents give the same id, however they were packed. Raises `InvalidProject`
    for an archive that is damaged, too large or tries to reach outside; then `folder` does not exist. Nothing is
    ever written outside of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(errno.ENOTEMPTY, "the folder is not empty", str(folder))
    try:
        with zip_path.open("rb") as file:
            _refuse_large_directory(file)
            with zipfile.ZipFile(file) as archive:
                return _extract(archive, _checked_entries(archive), folder)
    except BaseException as error:
        shutil.rmtree(folder)
        if isinstance(error, _DAMAGED) or (isinstance(error, OSError) and error.errno == errno.EINVAL):
            raise InvalidProject(f"the project's archive is damaged: {str(error) or 'it ends too early'}") from error
        raise


def _refuse_large_directory(file: BinaryIO) -> None:
    """Keep `zipfile` from reading millions of entries into memory before we can count them.

    It looks for the end record first where it stands without a comment, then from the back; so do we. Its 64-bit
    form, which no project within our limits needs, is refused.
    """
    size = file.seek(0, os.SEEK_END)
    tail_bytes = min(size, _END_BYTES + _MAX_COMMENT_BYTES + _ZIP64_LOCATOR_BYTES)
    file.seek(size - tail_bytes)
    tail = file.read(tail_bytes)
    at = len(tail) - _END_BYTES
    if at < 0 or not (tail.startswith(_END_OF_DIRECTORY, at) and tail.endswith(b"\0\0")):
        at = tail.rfind(_END_OF_DIRECTORY)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise InvalidProject("the project's archive is damaged: it is not a zip file")
    directory_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    if directory_bytes > _MAX_DIRECTORY_BYTES or tail.startswith(_ZIP64_LOCATOR, max(0, at - _ZIP64_LOCATOR_BYTES)):
        raise InvalidProject(f"the project's archive has more than {MAX_FILES:,} files")


def _checked_entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files of the archive, sorted by their paths. Raises `InvalidProject` unless all of them may be."""
    entries = archive.infolist()
    for entry in entries:
        if problem := _find_problem(entry):
            raise InvalidProject(f"the project's archive cannot be taken: `{_quote(entry)}`: {problem}")
    files = sorted((entry for entry in entries if not entry.is_dir()), key=lambda entry: entry.filename)
    if len(files) > MAX_FILES:
        raise InvalidProject(f"the project's archive has {len(files):,} files; at most {MAX_FILES:,} are taken")
    _refuse_too_many_bytes(sum(entry.file_size for entry in files))
    paths: set[str] = set()
    for entry in files:
        if entry.filename in paths:
            raise InvalidProject(f"the project's archive cannot be taken: `{_quote(entry)}`: it is there twice")
        paths.add(entry.filename)
    for entry in entries:
        for parent in _parents(entry.filename):
            if parent in paths:
                raise InvalidProject(f"the project's archive cannot be taken: `{parent}`: it is a file and a folder")
    return files


def _find_problem(entry: zipfile.ZipInfo) -> str | None:
    mode = entry.external_attr >> 16
    if entry.orig_filename != entry.filename:
        return "its name has control characters"
    if problem := find_path_problem(entry.filename.removesuffix("/")):
        return problem
    if entry.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "it is compressed in a way that is not supported"
    if stat.S_IFMT(mode) not in {0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG}:
        return "it is neither a plain file nor a folder"
    return None


def _extract(archive: zipfile.ZipFile, files: list[zipfile.ZipInfo], folder: Path) -> str:
    content = hashlib.sha256()
    total_bytes = 0
    for entry in files:
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        is_executable = bool(entry.external_attr >> 16 & stat.S_IXUSR)
        digest = hashlib.sha256()
        entry_bytes = 0
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755 if is_executable else 0o644)
        with archive.open(entry) as source, os.fdopen(descriptor, "wb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                entry_bytes += len(chunk)
                _refuse_too_many_bytes(total_bytes + entry_bytes)
                digest.update(chunk)
                file.write(chunk)
        if entry_bytes != entry.file_size:
            raise InvalidProject(f"the project's archive is damaged: `{_quote(entry)}` is not as long as it says")
        total_bytes += entry_bytes
        content.update(f"{entry.filename}\0{'x' if is_executable else '-'}\0{digest.hexdigest()}\n".encode())
    return content.hexdigest()


def _refuse_too_many_bytes(total_bytes: int) -> None:
    if total_bytes > MAX_BYTES:
        raise InvalidProject(f"the project's archive unpacks to more than {in_mebibytes(MAX_BYTES)}")


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _quote(entry: zipfile.ZipInfo) -> str:
    return ascii(entry.orig_filename)[1:-1]
