"""What a rerun keeps of a Batch that had failed in part: the rows of its good Items, so that only the others run.

It is found once, when the folder of the rerun is made, because a Batch is then looked up in no time, however many
there are. What is told of a Batch is what the Lease of it says (`Kept`).
"""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cortex.domain.batch import SUCCESSES, BatchState, EntryKind, ResultEntry
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.entries import OpenParts, find_entries, list_indexes
from cortex.storage.files import sync_file
from cortex.storage.segments import SegmentDamaged, States

Kept = dict[str, Any]
"""`worker`, `offset` and `length`: where the rows lie. `failed`: first and end of each range of Items that has failed,
and how many of the rows are of Items before it."""

_PLACE: Final = np.dtype([("batch", "<u8"), ("offset", "<u8")])


def kept_parts(folder: JobFolder, batch: int) -> Kept | None:
    """Give what was kept of a Batch; None where nothing was. Raises SegmentDamaged."""
    places = _read_places(folder)
    at = bisect_left(places["batch"], batch)
    if at == len(places) or places[at]["batch"] != batch:
        return None
    return _read(folder, int(places[at]["offset"]))


def batches_kept(folder: JobFolder, segment: SegmentRange) -> list[int]:
    """Give the open Batches of a Segment of which something was kept, in order. Raises SegmentDamaged."""
    batches = _read_places(folder)["batch"].astype(np.intp)
    inside = batches[(batches >= segment.first) & (batches < segment.end)]
    if not len(inside):
        return []
    states = np.frombuffer(States(folder, segment).read(), np.uint8)
    found: list[int] = inside[states[inside - segment.first] == BatchState.OPEN.value].tolist()
    return found


def write_kept(earlier: JobFolder, folder: JobFolder, segments: Sequence[SegmentRange]) -> None:
    """Find what a rerun keeps, durably; the result parts of the earlier Job are in its folder already.

    Something is kept of Batches that have failed in part, if the rows and the failures are intact, and of those of
    which the earlier Job had kept something and has got no further.
    """
    offset, places = 0, []
    with folder.kept.open("wb") as file:
        for segment in segments:
            for batch, kept in _find(earlier, folder, segment):
                places.append((batch, offset))
                offset += file.write(json.dumps(kept).encode() + b"\n")
    folder.kept_index.write_bytes(np.array(places, _PLACE).tobytes())
    for path in (folder.kept, folder.kept_index):
        if places:
            sync_file(path)
        else:
            path.unlink()


def _find(earlier: JobFolder, folder: JobFolder, segment: SegmentRange) -> Iterator[tuple[int, Kept]]:
    states = np.frombuffer(States(earlier, segment).read(), np.uint8)
    in_part = np.flatnonzero(states == BatchState.FAILED_IN_PART.value) + segment.first
    found = dict(_find_in_parts(folder, in_part))
    before = _read_places(earlier)["batch"].astype(np.intp)
    before = before[(before >= segment.first) & (before < segment.end)]
    before = before[~np.isin(states[before - segment.first], [*SUCCESSES, BatchState.FAILED_IN_PART])]
    for batch in np.union1d(in_part, before).tolist():
        kept = found.get(batch) or kept_parts(earlier, batch)
        if kept is not None:
            yield batch, kept


def _find_in_parts(folder: JobFolder, batches: npt.NDArray[np.intp]) -> Iterator[tuple[int, Kept]]:
    indexes = list_indexes(folder)
    entries, parts = find_entries(indexes, list(EntryKind), batches)
    pairs = ((ResultEntry(*entry.item()), part) for entry, part in zip(entries, parts.tolist(), strict=True))
    with OpenParts(indexes) as open_parts:
        for batch, of_batch in groupby(pairs, key=lambda pair: pair[0].batch):
            for _, of_token in groupby(of_batch, key=lambda pair: (pair[0].token, pair[1])):
                by_kind = {entry.kind: (part, entry) for entry, part in of_token}
                kept = _kept(indexes, open_parts, by_kind) if len(by_kind) == len(EntryKind) else None
                if kept is not None:  # the highest token comes first
                    yield batch, kept
                    break


def _kept(
    indexes: Sequence[Path], open_parts: OpenParts, by_kind: Mapping[int, tuple[int, ResultEntry]]
) -> Kept | None:
    """Give what the two entries of one attempt tell; None where they are not intact, or of no isolated Batch."""
    part, rows = by_kind[EntryKind.ROWS]
    failures = open_parts.read(*by_kind[EntryKind.FAILURE])
    if failures is None or open_parts.read(part, rows) is None:
        return None
    failed: list[list[int]] = []
    for failure in map(json.loads, failures.splitlines()):
        if "part" not in failure:
            return None
        first, end = failure["part"]
        if failed and failed[-1][1] == first:  # Items side by side are tried together once more
            failed[-1][1] = end
        else:
            failed.append([first, end, failure["rows_before"]])
    return {"worker": indexes[part].stem, "offset": rows.offset, "length": rows.length, "failed": failed}


def _read_places(folder: JobFolder) -> npt.NDArray[Any]:
    try:
        return np.fromfile(folder.kept_index, _PLACE)
    except FileNotFoundError:
        return np.empty(0, _PLACE)


def _read(folder: JobFolder, offset: int) -> Kept:
    try:
        with folder.kept.open("rb") as file:
            file.seek(offset)
            kept: Kept = json.loads(file.readline())
    except (FileNotFoundError, ValueError) as error:
        raise SegmentDamaged(f"`{folder.kept}` is damaged: {error}") from error
    return kept
