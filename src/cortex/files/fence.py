"""Which folders of this machine may be used."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cortex.domain.errors import FilesError

Allowed = Sequence[Path] | None
"""The folders of this machine that may be used; None for all."""


def write_allowed(allowed: Allowed) -> list[str] | None:
    """Write it as JSON has it, for another process."""
    return None if allowed is None else [os.fspath(path) for path in allowed]


def read_allowed(told: Sequence[str] | None) -> tuple[Path, ...] | None:
    """Read what `write_allowed` has written."""
    return None if told is None else tuple(map(Path, told))


class Fence:
    """The folders that may be read, where there are any; None of them means all."""

    def __init__(self, allowed: Allowed) -> None:
        self._roots = None if allowed is None else [os.path.realpath(os.fsencode(root)) for root in allowed]

    def contains(self, real: bytes) -> bool:
        """Tell whether a path without links lies in one of the folders, or is one."""
        return self._roots is None or any(_lies_in(real, root) for root in self._roots)

    def ways_down(self, real: bytes) -> Iterator[bytes]:
        """Give the names in a folder outside that lead to allowed ones. So nothing outside is ever looked at."""
        above = real.rstrip(b"/") + b"/"
        names = {root.removeprefix(above).split(b"/")[0] for root in self._roots or () if root.startswith(above)}
        return (name + b"/" for name in names)

    def check_prefix(self, prefix: str, folder: bytes, beginning: bytes) -> None:
        """Raise FilesError where nothing that is allowed can begin with a prefix."""
        real = os.path.realpath(folder)
        if not self.contains(real) and not any(name.startswith(beginning) for name in self.ways_down(real)):
            raise _forbidden(prefix)

    def check_link(self, shown: str, path: bytes) -> None:
        """Raise FilesError where a link leads out. Only links can: the folder has been checked."""
        if self._roots is not None and os.path.islink(path) and not self.contains(os.path.realpath(path)):  # noqa: PTH114
            raise _forbidden(shown)

    def check_opened(self, url: str, path: bytes, descriptor: int) -> None:
        """Raise FilesError where what has been opened lies outside, even if links have changed meanwhile."""
        if self._roots is None:
            return
        real = os.path.realpath(path)
        if not self.contains(real) or not os.path.samestat(os.stat(real), os.fstat(descriptor)):  # noqa: PTH116
            raise _forbidden(url)

    def check_target(self, url: str, path: bytes) -> None:
        """Raise FilesError where a file that is to be written would lie outside."""
        if not self.contains(os.path.realpath(path)):
            raise _forbidden(url)


def _lies_in(path: bytes, root: bytes) -> bool:
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def _forbidden(shown: str) -> FilesError:
    return FilesError(
        f"`{shown}` is outside the folders that this operator may use",
        hint="start the operator with `--allow-path FOLDER` for each folder that is read from or written to",
    )
