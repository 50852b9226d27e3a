"""A program: `cortex operator` with what tests change of it, by the variables of its environment named here.

What an operator is made of is chosen in `parts`, and is chosen otherwise here; nothing in cortex knows of it.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import cortex.operator.upkeep.syncing
import cortex.storage.inherit
import cortex.storage.kept
import cortex.storage.segments
from cortex import parts, wiring
from cortex.cli.main import main
from cortex.storage.files import sync_file, write_durably
from cortex.storage.sqlite import SqliteLedger

SEGMENT_BYTES: Final = "TEST_SEGMENT_BYTES"
"""How large the Segments are that files are cut into."""

BOUNDARIES: Final = "TEST_BOUNDARIES"
"""A file to which the name of each boundary is appended when the operator comes to it."""

END_AT: Final = "TEST_END_AT"
"""At which boundary, by its name or counted from 0, the operator is killed."""

SYNC_SECONDS: Final = "TEST_SYNC_SECONDS"
"""How often the files of small jobs are synced, and then forgotten by the ledger."""

BOOT_ID: Final = "TEST_BOOT_ID"
"""In which run of the machine the operator is to believe."""

ON_DISK: Final = "TEST_ON_DISK"
"""A folder for the ledger as a power cut would leave it: as it was after the last commit that was synced."""


FULL: Final = 2
"""What SQLite calls it that a commit is synced."""


class Boundaries:
    """Writes down each boundary that the operator comes to, and kills it at one of them."""

    def __init__(self, record: Path, end_at: str | None) -> None:
        self._record = record
        self._end_at = end_at
        self._passed = 0

    def reached(self, name: str) -> None:
        """Note that the operator has come to this boundary."""
        with self._record.open("a") as record:
            record.write(f"{name}\n")
        if self._end_at in (name, str(self._passed)):
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def around(self, write: Callable[..., None]) -> Callable[..., None]:
        """Give a function that brings a file to the disk with a boundary before it, and another one after it."""

        def watched(path: Path, *data: bytes) -> None:
            self.reached(f"before {write.__name__} {path.suffix or 'folder'}")
            write(path, *data)
            self.reached(f"after {write.__name__} {path.suffix or 'folder'}")

        return watched


def open_ledger(boundaries: Boundaries, on_disk: str | None, path: Path) -> SqliteLedger:
    """Open the ledger, with a boundary around each commit; after a synced one, keep what is on the disk then."""
    opened: list[SqliteLedger] = []

    def reached(name: str) -> None:
        if on_disk is not None and name.startswith("after") and opened and _syncs(opened[0]):
            files = [file for file in path.parent.glob(f"{path.name}*") if not file.name.endswith("-shm")]
            # By another process: one that closes a file of its own loses the locks that it has there.
            subprocess.run(["cp", *files, on_disk], check=True)
        boundaries.reached(name)

    opened.append(SqliteLedger(path, observe=reached))
    return opened[0]


def _syncs(ledger: SqliteLedger) -> bool:
    return bool(ledger._db.execute("PRAGMA synchronous").fetchone()[0] == FULL)


def prepare() -> None:
    """Change what the environment says."""
    choices: Any = parts
    if size := os.environ.pop(SEGMENT_BYTES, None):
        choices.Enqueuers = partial(parts.Enqueuers, segment_bytes=int(size))
    if seconds := os.environ.pop(SYNC_SECONDS, None):
        syncing: Any = cortex.operator.upkeep.syncing
        syncing._PAUSE_SECONDS = float(seconds)
    if boot_id := os.environ.pop(BOOT_ID, None):
        runs: Any = wiring
        runs._boot_id = lambda: boot_id
    end_at = os.environ.pop(END_AT, None)
    if record := os.environ.pop(BOUNDARIES, None):
        boundaries = Boundaries(Path(record), end_at)
        choices.SqliteLedger = partial(open_ledger, boundaries, os.environ.pop(ON_DISK, None))
        for write in (write_durably, sync_file):
            for module in (cortex.storage.segments, cortex.storage.inherit, cortex.storage.kept):
                if hasattr(module, write.__name__):
                    setattr(module, write.__name__, boundaries.around(write))


if __name__ == "__main__":
    prepare()
    main()
