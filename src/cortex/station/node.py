"""The folder of a machine on which stations run: the mirror of each, and what they share (see station.shared)."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cortex.domain.errors import StartRefused
from cortex.station.mirror import Mirror

FOLDER_VARIABLE: Final = "CORTEX_NODE_FOLDER"

_LOCK: Final = "lock"
_LEFT: Final = ".left"


def node_folder(environ: Mapping[str, str]) -> Path:
    """Say where the folder of this machine is."""
    if named := environ.get(FOLDER_VARIABLE):
        return Path(named).absolute()
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cortex" / "node"


class Node:
    """See the module."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stations = root / "stations"

    def make_mirror(self, worker: str) -> Mirror:
        """Make the mirror of the station of a Worker; it is this process's until it ends.

        Raises StartRefused where another station of the same Worker lives, and OSError.
        """
        self._stations.mkdir(parents=True, exist_ok=True)
        home = self._stations / worker
        with self._sweeping():
            if not _is_left(home):
                raise StartRefused(f"a station of the worker `{worker}` runs on this machine already")
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(mode=0o700)
            _hold(home / _LOCK)
        return Mirror(home, worker)

    def remove_mirror(self, worker: str) -> None:
        """Remove it, at the end of its station. Slow."""
        shutil.rmtree(self._stations / worker, ignore_errors=True)

    def remove_left(self) -> None:
        """Remove the mirrors that stations have left that were killed. Slow."""
        left = []
        with self._sweeping():
            for home in self._stations.iterdir():
                if home.suffix == _LEFT:
                    left.append(home)
                elif home.is_dir() and _is_left(home):
                    with suppress(OSError):  # one of this name is being removed
                        left.append(home.rename(home.with_suffix(_LEFT)))
        for home in left:  # nobody need wait for that
            shutil.rmtree(home, ignore_errors=True)

    @contextmanager
    def _sweeping(self) -> Iterator[None]:
        """Be the only one that makes or removes mirrors."""
        lock = _hold(self._stations / _LOCK)
        try:
            yield
        finally:
            os.close(lock)


def _hold(path: Path) -> int:
    """Wait for a lock, and keep it until its file is closed."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _is_left(home: Path) -> bool:
    """Tell whether nobody lives in a mirror."""
    try:
        lock = os.open(home / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
