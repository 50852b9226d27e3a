"""What all stations of a machine share: each thing is made once, by one of them, and appears when it is complete.

Whoever makes a thing, and whoever uses it, holds a lock, which its death lets go of. What nobody has used for long, and
nobody uses now, may be removed.
"""

import asyncio
import fcntl
import glob
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

_LOOK_AGAIN_SECONDS: Final = 0.1

Make = Callable[[Path], Awaitable[None]]
"""Makes something at a path where nothing is."""


class Shared:
    """See the module. A thing is named by its path in the folder of the machine."""

    def __init__(self, root: Path) -> None:
        """In the folder of the machine."""
        self.root = root
        self._locks = root / "locks"
        self._uses = root / "uses"
        self._kept: dict[str, int] = {}  # the open file of each use

    async def have(self, name: str, make: Make) -> Path:
        """Give what has this name, made if need be, and keep it. What `make` raises passes."""
        home = self.root / name
        await self.keep(name)
        if home.exists():
            return home
        async with self.alone(name):
            if not home.exists():
                new = home.with_name(f"{home.name}.{token_hex(4)}.new")
                await asyncio.to_thread(_remove_left, home)
                home.parent.mkdir(parents=True, exist_ok=True)
                await make(new)
                new.rename(home)
        return home

    async def keep(self, name: str) -> None:
        """Let nobody remove this, whether it is there already or not, until this process ends."""
        if name not in self._kept:
            self._kept[name] = await _wait_for_lock(self._uses / name, fcntl.LOCK_SH)
        os.utime(self._kept[name])

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Wait until no other station of this machine is in the same, by its name; it must be kept."""
        lock = await _wait_for_lock(self._locks / name, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(lock)

    def remove_unused(self, since: float) -> None:
        """Remove what no station of this machine has kept since then, a time of the clock in seconds. Slow."""
        removed = self.root / "removed"
        removed.mkdir(parents=True, exist_ok=True)
        for use in [path for path in self._uses.rglob("*") if path.is_file()]:
            with suppress(OSError):  # another station was quicker; or it cannot be removed, which others may try again
                if use.stat().st_mtime < since:
                    self._remove(use, since, removed)
        for left in removed.iterdir():  # also by one that was killed
            _delete(left)

    def _remove(self, use: Path, since: float, removed: Path) -> None:
        try:
            lock = _open_locked(use, fcntl.LOCK_EX)
        except BlockingIOError:
            os.utime(use)  # it is used now, and whoever does may be killed before it can say for how long it was
            return
        try:
            if os.fstat(lock).st_mtime < since:
                home = self.root / use.relative_to(self._uses)
                for path in [home, *_left_of(home)]:
                    with suppress(FileNotFoundError):
                        path.rename(removed / token_hex(8))
                (self._locks / use.relative_to(self._uses)).unlink(missing_ok=True)
                use.unlink()
        finally:
            os.close(lock)


async def _wait_for_lock(path: Path, how: int) -> int:
    while True:
        with suppress(BlockingIOError, FileNotFoundError):
            return _open_locked(path, how)
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _open_locked(path: Path, how: int) -> int:
    """Open a lock and take it. Raises BlockingIOError where others have it, FileNotFoundError if it was removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), path.stat()):
            raise FileNotFoundError(path)
    except OSError:
        os.close(lock)
        raise
    return lock


def _left_of(home: Path) -> list[Path]:
    """Give what was left of this by one that was killed while it made it."""
    return list(home.parent.glob(f"{glob.escape(home.name)}.*.new*"))


def _remove_left(home: Path) -> None:
    for left in _left_of(home):
        _delete(left)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
