"""The operator's own lines in a Job's log."""

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def append_line(log: Path, line: str) -> None:
    """Append one line (or several) to a Job's log, whole: Workers write to it at the same time.

    A log that cannot be written, on a full disk say, is no reason to hold up the Job; the operator's own log has it.
    """
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)
    except OSError as error:
        logger.warning("`%s` cannot be written (%s): %s", log, error, line)
