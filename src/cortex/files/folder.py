"""Files on the local disk, behind plain paths and `file://` URLs, listed as S3 lists keys.

A prefix is a text, not a folder: `/d/img` stands for `/d/img`, `/d/img_1.png` and `/d/images/x`. Every URL begins
with the prefix as it was written. What is no regular file (a FIFO, a device, a socket) is not listed. Links are
followed, except those that lead back to a folder they lie in.
"""

import errno
import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast
from urllib.parse import quote_from_bytes

from cortex.domain.errors import FileChanged, FilesError, FilesUnavailable
from cortex.files.address import local_path
from cortex.files.bodies import not_there
from cortex.files.fence import Fence
from cortex.files.files import FileInfo

_UNFINISHED: Final = b".cortex-part"  # the name of a file that is being written ends in this; it is not listed
_BUFFER_BYTES: Final = 2**20
_PASSING: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENOTCONN,
)
"""What a disk, or one in a network, has against a file for a while only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFiles:
    """The disk of this machine, or what of it lies in the folders that are allowed."""

    allowed: tuple[Path, ...] | None = None

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[FileInfo]:
        """Keep the contract; of each folder on the way, the names are held in memory."""
        spelling = _Spelling.of(prefix)
        folder, _, beginning = local_path(prefix).rpartition(b"/")
        folder += b"/"
        fence = Fence(self.allowed)
        fence.check_prefix(prefix, folder, beginning)
        skipped = None if after is None else after.encode()
        # A stack of its own, because paths may be deeper than Python recurses.
        levels = [_Level(spelling, fence, folder, beginning, skipped)]
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif entry.is_folder:
                level = _Level(spelling, fence, entry.path + b"/", b"", skipped)
                if level.identity not in {above.identity for above in levels}:
                    levels.append(level)
            else:
                yield FileInfo(
                    url=spelling.url(entry.path), size_bytes=entry.stat.st_size, version=_version(entry.stat)
                )

    def open(self, file: FileInfo) -> BinaryIO:
        """Keep the contract; the kernel reads ahead."""
        path = local_path(file.url)
        with _told(file.url):
            # Not blocking, or a FIFO that has taken the file's place would hold us.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with _told(file.url):
                Fence(self.allowed).check_opened(file.url, path, descriptor)
                check_unchanged(file, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cast(BinaryIO, io.BufferedReader(_UnchangedFile(file, descriptor), _BUFFER_BYTES))

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        """Keep the contract."""
        path = local_path(url)
        with _told(url), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:  # noqa: PTH123
            Fence(self.allowed).check_opened(url, path, file.fileno())
            data = bytearray()
            while len(data) < length and (more := os.pread(file.fileno(), length - len(data), offset + len(data))):
                data += more
        if len(data) != length:
            raise not_there(url, offset, length)
        return bytes(data)

    def write(self, url: str, data: bytes) -> None:
        """Keep the contract; folders are made as needed, and the file outlives a power cut."""
        path = local_path(url)
        folder, _, name = path.rpartition(b"/")
        if not name:
            raise FilesError(f"`{url}` is a folder, a file cannot be written there")
        Fence(self.allowed).check_target(url, path)
        unfinished = folder + b"/." + secrets.token_hex(8).encode() + _UNFINISHED
        with _told(url, "written"):
            _make_folder(folder or b"/")
            try:
                _write_synced(folder or b"/", path, unfinished, data)
            except OSError:
                Path(os.fsdecode(unfinished)).unlink(missing_ok=True)
                raise
            _sync_folder(folder or b"/")

    def remove(self, url: str) -> None:
        """Keep the contract."""
        path = local_path(url)
        Fence(self.allowed).check_target(url, path)
        with _told(url, "removed"), suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)  # noqa: PTH108
            _sync_folder(path.rpartition(b"/")[0] or b"/")

    def remove_unfinished(self, folder: str) -> None:
        """Keep the contract."""
        path = local_path(folder)
        Fence(self.allowed).check_target(folder, path)
        with _told(folder, "written"), suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(path):  # noqa: PTH208
                if name.endswith(_UNFINISHED):
                    os.unlink(path + b"/" + name)  # noqa: PTH108


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spelling:
    """How the URLs of a listing are written: the prefix as it came, then the rest of each path."""

    prefix: str
    prefix_bytes: int  # of the path that it stands for
    is_percent_encoded: bool

    @classmethod
    def of(cls, prefix: str) -> "_Spelling":
        return cls(prefix=prefix, prefix_bytes=len(local_path(prefix)), is_percent_encoded=not prefix.startswith("/"))

    def rest(self, name: bytes) -> bytes:
        """Spell a part of a path, without the prefix."""
        return quote_from_bytes(name).encode() if self.is_percent_encoded else name

    def url(self, path: bytes) -> str:
        """Spell a path that begins with the prefix."""
        rest = path[self.prefix_bytes :]
        if self.is_percent_encoded:
            return self.prefix + quote_from_bytes(rest)
        try:
            return self.prefix + rest.decode()
        except UnicodeDecodeError as error:
            raise FilesError(
                f"the name of `{path.decode(errors='backslashreplace')}` is not UTF-8, a plain path cannot name it",
                hint=f"write the path as `file://{quote_from_bytes(path[: self.prefix_bytes])}`",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    path: bytes
    is_folder: bool
    stat: os.stat_result


class _Level:
    """What of a folder is still to come, in the order of URLs: a folder stands where its name and a `/` do."""

    def __init__(
        self, spelling: _Spelling, fence: "Fence", folder: bytes, beginning: bytes, after: bytes | None
    ) -> None:
        self.identity: tuple[int, int] | None = None
        self._spelling = spelling
        self._fence = fence
        self._folder = folder
        self._beginning = beginning
        self._after = after
        names = self._names()
        names.sort(key=spelling.rest, reverse=True)
        self._names_to_come = names

    def __iter__(self) -> "_Level":
        return self

    def __next__(self) -> _Entry:
        while self._names_to_come:
            entry = self._entry(self._names_to_come.pop())
            if entry is not None:
                return entry
        raise StopIteration

    def _names(self) -> list[bytes]:
        """Give the names that the prefix takes and that come after `after`, those of folders with a `/`."""
        try:
            real = os.path.realpath(self._folder)
            status = os.stat(real)  # noqa: PTH116
            self.identity = (status.st_dev, status.st_ino)
            if not self._fence.contains(real):
                return [name for name in self._fence.ways_down(real) if self._is_wanted(name)]
            with os.scandir(self._folder) as entries:
                return [name for entry in entries if self._is_wanted(name := _sorted_name(entry))]
        except (FileNotFoundError, NotADirectoryError):
            return []  # nothing begins with this
        except OSError as error:
            raise _unreadable(self._shown(b""), error) from error

    def _is_wanted(self, name: bytes) -> bool:
        if not name.startswith(self._beginning) or name.endswith(_UNFINISHED):
            return False
        if self._after is None:
            return True
        url = self._url(name)
        return url > self._after or (name.endswith(b"/") and self._after.startswith(url))

    def _url(self, name: bytes) -> bytes:
        path = self._folder + name
        return self._spelling.prefix.encode() + self._spelling.rest(path[self._spelling.prefix_bytes :])

    def _entry(self, name: bytes) -> _Entry | None:
        """Look at what has a name; None if it is not (or no longer) a file or folder, or outside the fence."""
        path = self._folder + name.removesuffix(b"/")
        try:
            status = os.stat(path)  # noqa: PTH116
        except FileNotFoundError as error:
            if os.path.islink(path):  # noqa: PTH114
                raise FilesError(
                    f"`{self._shown(name)}` is a link to nothing", hint="remove the link, or bring back its target"
                ) from error
            return None  # removed since the folder was read
        except OSError as error:
            raise _unreadable(self._shown(name), error) from error
        if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return None
        self._fence.check_link(self._shown(name), path)
        return _Entry(path=path, is_folder=stat.S_ISDIR(status.st_mode), stat=status)

    def _shown(self, name: bytes) -> str:
        return (self._folder + name).decode(errors="backslashreplace")


class _UnchangedFile(io.RawIOBase):
    """A file that tells at its end whether it was another meanwhile."""

    def __init__(self, file: FileInfo, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _told(self._file.url):
            count = os.readv(self._descriptor, [buffer])
            if count == 0:
                check_unchanged(self._file, self._descriptor)
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


def _sorted_name(entry: "os.DirEntry[bytes]") -> bytes:
    try:
        return entry.name + b"/" if entry.is_dir() else entry.name
    except OSError:
        return entry.name  # a link in a circle: whoever looks at it says so


def _version(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def check_unchanged(file: FileInfo, descriptor: int) -> None:
    """Raise FileChanged unless a file that is open is the one that was listed."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FileChanged(f"`{file.url}` is no longer a file")
    if _version(status) != file.version:
        raise FileChanged(
            f"`{file.url}` has changed since it was listed", hint="submit again when nothing writes to it any more"
        )


@contextmanager
def _told(url: str, done: str = "read") -> Iterator[None]:
    """Say as FilesError what the disk has against it."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if done == "read":
            raise FileChanged(f"`{url}` has been removed since it was listed") from error
        raise _unreadable(url, error, done) from error
    except OSError as error:
        raise _unreadable(url, error, done) from error


def _unreadable(shown: str, error: OSError, done: str = "read") -> FilesError:
    hint = "give the operator's user access to it" if error.errno in (errno.EACCES, errno.EPERM) else None
    kind = FilesUnavailable if error.errno in _PASSING else FilesError
    return kind(f"`{shown}` cannot be {done}: {os.strerror(error.errno or 0)}", hint=hint)


def _make_folder(folder: bytes) -> None:
    """Make a folder and those above it, so that they outlive a power cut."""
    missing = []
    while folder and not os.path.isdir(folder):  # noqa: PTH112 - pathlib has no bytes
        missing.append(folder)
        folder = folder.rpartition(b"/")[0]
    for path in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102
        _sync_folder(path.rpartition(b"/")[0] or b"/")


def _write_synced(folder: bytes, path: bytes, unfinished: bytes, data: bytes) -> None:
    """Write a file that has no name before it is whole, where the disk can do that: a kill leaves nothing then."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    try:
        descriptor, has_name = os.open(folder, flags | os.O_TMPFILE, 0o666), False
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        descriptor, has_name = os.open(unfinished, flags | os.O_CREAT | os.O_EXCL, 0o666), True
    with open(descriptor, "wb") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        if not has_name:
            try:
                _name(file.fileno(), path)
            except FileExistsError:  # only a name can take another's place
                _name(file.fileno(), unfinished)
            else:
                return
    os.replace(unfinished, path)  # noqa: PTH105


def _name(descriptor: int, path: bytes) -> None:
    # With the descriptor of a folder, which is not looked at: without one, Python makes a link to the link.
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)


def _sync_folder(folder: bytes) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
