"""Files that come from other machines, before they belong to a Job."""

import os
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

from cortex.domain.errors import InvalidRequest, StorageFull, TooLarge, UploadNotFound, UploadOutOfStep
from cortex.storage.files import sync_file

MAX_FILES: Final = 10_000

_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")
_MAX_NAME_BYTES: Final = 1024
_MAX_PART_BYTES: Final = 255  # what file systems take
_TOTAL_FACTOR: Final = 4
_DISCARDED: Final = "discarded-"  # no id begins so


@dataclass(slots=True)
class _Upload:
    """What has come of one upload: the size of each file, and of all."""

    sizes: dict[str, int]
    total_bytes: int

    def grow(self, name: str, count: int) -> None:
        self.sizes[name] = self.sizes.get(name, 0) + count
        self.total_bytes += count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Appender:
    """One who lets a file grow."""

    upload_id: str
    name: str
    file: int


@dataclass(slots=True, kw_only=True)
class Uploads:
    """Keeps each upload in a folder of its own until it is taken or removed.

    An upload is what one client wants to submit: files with names, each of which grows from its beginning. All that
    `offset` tells is on the disk, so that a client may go on there after any crash. The methods may be called from any
    thread. They raise InvalidRequest for an id or a name that cannot be one.
    """

    root: Path
    limit_bytes: int  # of one upload; all together may have four times as much
    now_ns: Callable[[], int] = time.time_ns
    _uploads: dict[str, _Upload] = field(default_factory=dict)
    _appenders: dict[tuple[str, str], _Appender] = field(default_factory=dict)  # one for a file
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def recover(self) -> None:
        """Take over what earlier operators have received. To be called before anything else."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in self.root.iterdir():
            if _UPLOAD_ID.fullmatch(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)  # what was being discarded
                continue
            upload = self._uploads[folder.name] = _Upload({}, 0)
            for path in folder.rglob("*"):
                if path.is_file():
                    sync_file(path)
                    upload.grow(path.relative_to(folder).as_posix(), path.stat().st_size)

    def offset(self, upload_id: str, name: str) -> int:
        """Give how many bytes of a file are there, and on the disk; 0 for one of which nothing has come."""
        _check(upload_id, name)
        with self._lock:
            self._touch(upload_id)
            return self._size(upload_id, name)

    @contextmanager
    def append(self, upload_id: str, name: str, offset: int) -> Iterator[Callable[[bytes], None]]:
        """Let a file grow from an offset, which must be its present size, by what is written to the function given.

        In the end, all of that is on the disk. Who appends to the same file already is cut off: a client that has lost
        its connection goes on by another one. Raises UploadOutOfStep for another offset, and once this one is cut off;
        TooLarge, or StorageFull.
        """
        _check(upload_id, name)
        with self._lock:
            present = self._size(upload_id, name)
            if offset != present:
                raise UploadOutOfStep(f"`{name}` has {present} bytes so far, and cannot go on at {offset}")
            self._check_count(upload_id, name)
            appender = _Appender(upload_id=upload_id, name=name, file=self._open(upload_id, name))
            self._appenders[upload_id, name] = appender
            self._uploads.setdefault(upload_id, _Upload({}, 0)).grow(name, 0)
            self._touch(upload_id)
        try:
            yield partial(self._write, appender)
        finally:
            self._close(appender)

    def folder(self, upload_id: str) -> Path:
        """Give the folder of an upload. Raises UploadNotFound."""
        _check(upload_id)
        with self._lock:
            self._check_presence(upload_id)
            self._touch(upload_id)
        return self.root / upload_id

    def take(self, upload_id: str, destination: Path) -> None:
        """Move an upload to a place of its own, on the same file system: from now on it is not an upload any more.

        The destination must not exist, but the folder that it is in must, and is for the caller to sync. Raises
        UploadNotFound.
        """
        _check(upload_id)
        with self._lock:
            self._check_presence(upload_id)
            for name in self._uploads[upload_id].sizes:
                self._size(upload_id, name)
            folder = self.root / upload_id
            for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
                sync_file(path)
            folder.rename(destination)
            self._forget(upload_id)

    def remove(self, upload_id: str) -> None:
        """Remove an upload; nothing to do where there is none. Slow for a large one."""
        _check(upload_id)
        discarded = self.root / f"{_DISCARDED}{token_hex(8)}"
        with self._lock:
            self._forget(upload_id)
            with suppress(FileNotFoundError):
                (self.root / upload_id).rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)

    def stale(self, older_than: timedelta) -> list[str]:
        """Give the uploads that have not been used for so long."""
        oldest_ns = self.now_ns() - older_than // timedelta(microseconds=1) * 1000
        with self._lock:
            return [upload_id for upload_id in self._uploads if self._used_at_ns(upload_id) < oldest_ns]

    def remove_stale(self, older_than: timedelta) -> None:
        """Remove the uploads that have not been used for so long. Slow for large ones."""
        for upload_id in self.stale(older_than):
            self.remove(upload_id)

    # All of these, but `_close`, are called by one who holds the lock, or takes it

    def _write(self, appender: _Appender, data: bytes) -> None:
        upload_id, name = appender.upload_id, appender.name
        with self._lock:
            if self._appenders.get((upload_id, name)) is not appender:
                raise UploadOutOfStep(f"another request goes on with `{name}`, or the upload was taken or removed")
            self._check_room(upload_id, len(data))
            try:
                while data:
                    written = os.write(appender.file, data)
                    self._uploads[upload_id].grow(name, written)
                    data = data[written:]
            except OSError as error:
                raise _storage_full(error) from error
            self._touch(upload_id)

    def _close(self, appender: _Appender) -> None:
        key = appender.upload_id, appender.name
        try:
            os.fdatasync(appender.file)  # nobody waits for it
        except OSError as error:
            raise _storage_full(error) from error
        finally:
            with self._lock:
                if self._appenders.get(key) is appender:
                    del self._appenders[key]
                os.close(appender.file)

    def _check_presence(self, upload_id: str) -> None:
        if upload_id not in self._uploads:
            raise UploadNotFound(
                f"there is no upload `{upload_id}`",
                hint="an upload is removed when it has not been used for a day; run the command again",
            )

    def _size(self, upload_id: str, name: str) -> int:
        """Give the size of a file, all of which is on the disk then."""
        if (appender := self._appenders.get((upload_id, name))) is not None:
            os.fdatasync(appender.file)
        return self._uploads[upload_id].sizes.get(name, 0) if upload_id in self._uploads else 0

    def _check_count(self, upload_id: str, name: str) -> None:
        sizes = self._uploads[upload_id].sizes if upload_id in self._uploads else {}
        total = sum(len(upload.sizes) for upload in self._uploads.values())
        if name not in sizes and (len(sizes) >= MAX_FILES or total >= _TOTAL_FACTOR * MAX_FILES):
            raise TooLarge(
                f"an upload must have at most {MAX_FILES} files, and all that wait {_TOTAL_FACTOR * MAX_FILES}",
                hint="join them to fewer files, or submit them in several jobs",
            )

    def _check_room(self, upload_id: str, more_bytes: int) -> None:
        hint = "start the operator with a larger --max-upload, or submit in several jobs"
        if self._uploads[upload_id].total_bytes + more_bytes > self.limit_bytes:
            raise TooLarge(f"an upload must have at most {self.limit_bytes} bytes", hint=hint)
        total_bytes = sum(upload.total_bytes for upload in self._uploads.values())
        if total_bytes + more_bytes > _TOTAL_FACTOR * self.limit_bytes:
            raise TooLarge(f"the uploads that wait have {total_bytes} bytes; there is no room for more", hint=hint)

    def _open(self, upload_id: str, name: str) -> int:
        path = self.root / upload_id / name
        folders = [folder for folder in path.parents if folder.is_relative_to(self.root / upload_id)]
        try:
            for folder in reversed(folders):
                folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise InvalidRequest(f"the name `{name}` is that of a folder, or lies in a file") from None
        except OSError as error:
            raise _storage_full(error) from error

    def _touch(self, upload_id: str) -> None:
        now_ns = self.now_ns()
        with suppress(FileNotFoundError):
            os.utime(self.root / upload_id, ns=(now_ns, now_ns))

    def _used_at_ns(self, upload_id: str) -> int:
        try:
            return (self.root / upload_id).stat().st_mtime_ns
        except FileNotFoundError:  # removed by hand
            return 0

    def _forget(self, upload_id: str) -> None:
        self._uploads.pop(upload_id, None)
        self._appenders = {key: appender for key, appender in self._appenders.items() if key[0] != upload_id}


def _check(upload_id: str, name: str | None = None) -> None:
    if _UPLOAD_ID.fullmatch(upload_id) is None:
        raise InvalidRequest(f"the id of an upload is 32 hexadecimal digits, not {upload_id!r}")
    if name is not None and not _is_valid(name):
        raise InvalidRequest(
            f"{name!r} cannot be the name of an uploaded file",
            hint="a name is a relative path of at most 1024 bytes, without `..`, `\\` and control characters",
        )


def _is_valid(name: str) -> bool:
    """Tell whether a name, as it came, is that of a file below the folder, and of one file only."""
    # U+FFFD stands for what was not UTF-8: two such names may be meant for two files.
    if any(unicodedata.category(letter) in ("Cc", "Cs") or letter in "\\\ufffd" for letter in name):
        return False
    return len(name.encode()) <= _MAX_NAME_BYTES and all(
        part not in ("", ".", "..") and len(part.encode()) <= _MAX_PART_BYTES for part in name.split("/")
    )


def _storage_full(error: OSError) -> StorageFull:
    return StorageFull(
        f"the operator cannot keep what is sent: {error.strerror or error}",
        hint="what came is kept: once its disk has room, run the command again",
    )
