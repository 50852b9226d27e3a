"""A program: `cortex operator` with what tests change of it, by the variables of its environment named here.

What an operator is made of is chosen in `wiring`, and is chosen otherwise here; nothing in cortex knows of it.
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import cortex.storage.inherit
import cortex.storage.kept
import cortex.storage.segments
from cortex import wiring
from cortex.cli.main import main
from cortex.storage.files import sync_file, write_durably

SEGMENT_BYTES: Final = "TEST_SEGMENT_BYTES"
"""How large the Segments are that files are cut into."""

BOUNDARIES: Final = "TEST_BOUNDARIES"
"""A file to which the name of each boundary is appended when the operator comes to it."""

END_AT: Final = "TEST_END_AT"
"""At which boundary, counted from 0, the operator is killed."""


class Boundaries:
    """Writes down each boundary that the operator comes to, and kills it at one of them."""

    def __init__(self, record: Path, end_at: int | None) -> None:
        self._record = record
        self._end_at = end_at
        self._passed = 0

    def reached(self, name: str) -> None:
        """Note that the operator has come to this boundary."""
        with self._record.open("a") as record:
            record.write(f"{name}\n")
        if self._passed == self._end_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def around(self, write: Callable[..., None]) -> Callable[..., None]:
        """Give a function that brings a file to the disk with a boundary before it, and another one after it."""

        def watched(path: Path, *data: bytes) -> None:
            self.reached(f"before {write.__name__} {path.suffix or 'folder'}")
            write(path, *data)
            self.reached(f"after {write.__name__} {path.suffix or 'folder'}")

        return watched


def prepare() -> None:
    """Change what the environment says."""
    choices: Any = wiring
    if size := os.environ.pop(SEGMENT_BYTES, None):
        choices.Enqueuers = partial(wiring.Enqueuers, segment_bytes=int(size))
    end_at = os.environ.pop(END_AT, None)
    if record := os.environ.pop(BOUNDARIES, None):
        boundaries = Boundaries(Path(record), None if end_at is None else int(end_at))
        choices.SqliteLedger = partial(wiring.SqliteLedger, observe=boundaries.reached)
        for write in (write_durably, sync_file):
            for module in (cortex.storage.segments, cortex.storage.inherit, cortex.storage.kept):
                if hasattr(module, write.__name__):
                    setattr(module, write.__name__, boundaries.around(write))


if __name__ == "__main__":
    prepare()
    main()
