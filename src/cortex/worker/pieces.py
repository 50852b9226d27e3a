"""What has come of the parts of a Batch, put together in the order of its items."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cortex.domain.frame import Frame
from cortex.domain.isolation import Part
from cortex.domain.layout import JobFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What has come of a Part: rows as JSON lines, or a failure."""

    part: Part
    data: bytes = b""
    rows: int = 0
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """All that has come of a Batch: what its result entries are made of."""

    data: bytes
    rows: int
    failures: bytes  # JSON lines, one for each Part that has failed
    failed_items: int


def join(pieces: Iterable[Piece]) -> Joined:
    """Put pieces together that cover a Batch."""
    in_order = sorted(pieces, key=lambda piece: piece.part)
    rows = failed_items = 0
    failures = []
    for piece in in_order:
        if piece.failure is not None:
            line = {**piece.failure, "part": list(piece.part), "rows_before": rows}
            failures.append(json.dumps(line).encode() + b"\n")
            failed_items += piece.part.size
        rows += piece.rows
    data = b"".join(piece.data for piece in in_order)
    return Joined(data=data, rows=rows, failures=b"".join(failures), failed_items=failed_items)


class KeptDamaged(Exception):
    """The rows that an earlier Job has kept cannot be read."""


def read_kept(folder: JobFolder, kept: Frame, items: int) -> list[Piece]:
    """Give what an earlier Job has kept of a Batch of so many items, without the Parts that had failed.

    Raises KeptDamaged.
    """
    try:
        with folder.rows(kept["worker"]).open("rb") as file:
            data = os.pread(file.fileno(), kept["length"], kept["offset"])
    except OSError as error:
        raise KeptDamaged from error
    *lines, rest = data.split(b"\n")
    if rest or len(data) != kept["length"] or any(rows_before > len(lines) for _, _, rows_before in kept["failed"]):
        raise KeptDamaged
    return list(_between(kept["failed"], lines, items))


def failed_parts(kept: Frame) -> list[Part]:
    """Give the Parts that had failed."""
    return [Part(first, end) for first, end, _ in kept["failed"]]


def _between(failed: list[tuple[int, int, int]], lines: list[bytes], items: int) -> Iterator[Piece]:
    item = row = 0
    for first, end, rows_before in [*failed, (items, items, len(lines))]:
        data = b"".join(line + b"\n" for line in lines[row:rows_before])
        yield Piece(part=Part(item, first), data=data, rows=rows_before - row)
        item, row = end, rows_before
