"""What all stations of a machine share: each thing is made once, by one of them, and appears when it is complete.

Whoever makes it holds a lock, which its death lets go of.
"""

import asyncio
import fcntl
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
    """See the module."""

    def __init__(self, root: Path) -> None:
        """In the folder of the machine."""
        self.root = root
        self._locks = root / "locks"

    async def have(self, kind: str, key: str, make: Make) -> Path:
        """Give the folder of what has this key, made if need be. What `make` raises passes."""
        home = self.root / kind / key
        if home.exists():
            return home
        async with self.alone(f"{kind}-{key}"):
            if not home.exists():
                new = home.with_name(f"{key}.{token_hex(4)}.new")
                await asyncio.to_thread(_remove_left, home)
                home.parent.mkdir(parents=True, exist_ok=True)
                await make(new)
                new.rename(home)
        return home

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Wait until no other station of this machine is in the same, by its name."""
        self._locks.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            yield
        finally:
            os.close(lock)


def _remove_left(home: Path) -> None:
    """Remove what was left of this by one that was killed."""
    for left in home.parent.glob(f"{home.name}.*.new*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
