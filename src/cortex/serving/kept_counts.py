"""The counts of an API's requests, kept for the next operator."""

import json
from contextlib import suppress
from pathlib import Path

from cortex.serving.counts import RequestCounts
from cortex.storage.files import write_whole


def read_counts(path: Path) -> RequestCounts:
    """Read what was written; where nothing can be read, it is counted from the beginning."""
    with suppress(OSError, ValueError, TypeError):
        return RequestCounts.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return RequestCounts()


def write_counts(path: Path, counts: RequestCounts) -> None:
    """Write them, whole; where that is not possible they are lost with this operator, and that is all."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(counts.to_dict()))
