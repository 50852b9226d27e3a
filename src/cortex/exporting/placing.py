"""Putting files where the results belong, for as long as it takes."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cortex.domain.errors import FilesUnavailable
from cortex.exporting.events import FileWritten, Troubled
from cortex.files.files import Files

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0

Facts = dict[str, Any]
"""What is known of a file: name, bytes, sha256, and what is in it."""


@dataclass(slots=True, kw_only=True)
class Folder:
    """The folder of one Job's results."""

    files: Files
    url: str
    tell: Callable[[FileWritten | Troubled], None]
    patience_seconds: float  # how long a storage that does not answer is asked again, for each file
    written: list[Facts] = field(default_factory=list)

    def write(self, name: str, data: bytes, facts: Mapping[str, Any] | None = None) -> Facts:
        """Write a file, and give what is known of it. Raises FilesError once there is no hope."""
        self._insist(lambda: self.files.write(f"{self.url}/{name}", data))
        about = {"name": name, "bytes": len(data), **(facts or {}), "sha256": hashlib.sha256(data).hexdigest()}
        self.written.append(about)
        self.tell(FileWritten(name=name))
        return about

    def names(self) -> list[str]:
        """Give the names of the files that are there."""
        beginning = f"{self.url}/"
        listed: list[str] = []
        self._insist(lambda: listed.extend(file.url.removeprefix(beginning) for file in self.files.list(beginning)))
        return sorted(set(listed))

    def remove(self, name: str) -> None:
        """Remove a file. Raises FilesError."""
        self._insist(lambda: self.files.remove(f"{self.url}/{name}"))

    def remove_unfinished(self, below: str = "") -> None:
        """Remove what a killed process has left, here or in a folder in here. Raises FilesError."""
        self._insist(lambda: self.files.remove_unfinished(f"{self.url}/{below}".rstrip("/")))

    def _insist(self, act: Callable[[], None]) -> None:
        give_up_at = time.monotonic() + self.patience_seconds
        pauses = _pauses()
        while True:
            try:
                act()
            except FilesUnavailable as error:
                pause = next(pauses)
                if time.monotonic() + pause > give_up_at:
                    raise
                self.tell(Troubled(reason=error.message))
                time.sleep(pause)
            else:
                return


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def exported_lines(written: list[Facts]) -> bytes:
    """Give what is kept in the Job's own folder of what was written."""
    return b"".join(json.dumps(facts).encode() + b"\n" for facts in written)
