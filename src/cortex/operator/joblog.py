"""The operator's own lines in a Job's log."""

import os
from pathlib import Path


def append_line(log: Path, line: str) -> None:
    """Append one line (or several) to a Job's log, whole: Workers write to it at the same time."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)
