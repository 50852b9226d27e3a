"""What `cortex submit --dry-run` shows: how much a job would work on. Pure: counts in, text out."""

from collections.abc import Sequence

from cortex.answers import DryRun
from cortex.cli.tables import table
from cortex.clients.job_request import SHOWN_PATHS


def joined(parts: Sequence[DryRun], batch_size: int) -> DryRun:
    """Count what is here and what the operator lists as one dataset."""
    if len(parts) == 1:
        return parts[0]
    items = _sum([part["items"] for part in parts])
    return {
        "files": _sum([part["files"] for part in parts]),
        "bytes": _sum([part["bytes"] for part in parts]),
        "items": items,
        "batches": None if items is None else -(-items // batch_size),  # a batch may hold items of both
        "paths": [path for part in parts for path in part["paths"]][:SHOWN_PATHS],
    }


def dry_run_view(counts: DryRun) -> str:
    """Show the counts, the first files, and that all is well."""
    size = None if counts["bytes"] is None else format_size(counts["bytes"])
    row = [counts["files"], size, counts["items"], counts["batches"]]
    lines = [
        table(["files", "size", "items", "batches"], [["-" if cell is None else cell for cell in row]]),
        "",
        *counts["paths"],
    ]
    hidden = (counts["files"] or 0) - len(counts["paths"])
    if hidden > 0:
        lines.append(f"... and {hidden} more")
    return "\n".join([*lines, "validations passed"])


def format_size(size_bytes: int) -> str:
    """`17 B`, `1.5 MiB`"""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size_bytes} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
