"""A disk of the tests' own: a file system of a few megabytes, which can be filled and emptied.

It is mounted where nobody else sees it, so that it is gone with the processes that do, whatever becomes of the test.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOLD = 'mount -t tmpfs -o size="$1" tmpfs "$0" && echo mounted && read -r line'
_FILLER = "filler"


class SmallDisk:
    """A disk that is mounted at a path for those who enter it."""

    def __init__(self, path: Path, holder: int) -> None:
        self.path = path
        self._holder = holder

    @property
    def enter(self) -> list[str]:
        """What to put before the command of a process that is to see the disk."""
        return ["nsenter", f"--target={self._holder}", "--user", "--mount", "--preserve-credentials", "--"]

    def seen(self, path: Path) -> Path:
        """Give the path by which this process reaches what lies there."""
        return Path(f"/proc/{self._holder}/root") / path.relative_to("/")

    def fill(self, *, leave: int = 0) -> None:
        """Leave room for so many bytes (whole pages), and no more."""
        self.make_room()
        place = self.seen(self.path)
        free = os.statvfs(place)
        with (place / _FILLER).open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - leave))

    def make_room(self) -> None:
        """Take away what fills it."""
        (self.seen(self.path) / _FILLER).unlink(missing_ok=True)

    def run(self, *command: str) -> None:
        """Run a command that sees it."""
        subprocess.run([*self.enter, *command], check=True)


@contextmanager
def small_disk(path: Path, *, size: str = "24m") -> Iterator[SmallDisk | None]:
    """Mount a disk; give None where this machine does not let us."""
    path.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _HOLD, str(path), size]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        is_mounted = holder.stdout.readline() == b"mounted\n"
        yield SmallDisk(path, holder.pid) if is_mounted else None
