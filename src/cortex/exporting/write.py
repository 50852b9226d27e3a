"""The results of a Job as files, in input order, with a manifest, and `_SUCCESS` last of all.

The same Job gives the same files, byte for byte: what a killed process has left is replaced.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from cortex.domain.errors import FilesError
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.output import Output, OutputFormat
from cortex.exporting.columns import Columns
from cortex.exporting.encoders import Encoder, encoder_maker
from cortex.exporting.events import Ended, FileWritten, Troubled, Written
from cortex.exporting.joined import BatchRows, read_batches
from cortex.exporting.placing import Facts, Folder, exported_lines
from cortex.exporting.receipt import Receipt, input_lines
from cortex.files.files import Files
from cortex.storage.files import sync_file, write_durably

PART_BYTES: Final = 64 * 1024 * 1024
SUCCESS: Final = "_SUCCESS"
MANIFEST: Final = "manifest.json"
LISTS: Final = "_manifest"
"""What manifest.json does not list itself: what reads all files of a folder leaves names with `_` out."""

Tell = Callable[[FileWritten | Troubled], None]


def write(
    files: Files,
    ended: Ended,
    folder: JobFolder,
    tell: Tell,
    *,
    is_success: bool,
    patience_seconds: float,
    part_bytes: int = PART_BYTES,
) -> Written:
    """Write all, and give how much that was.

    Raises FilesError where it cannot be written, ResultDamaged and SegmentDamaged where it cannot be read.
    """
    output = _output_of(ended)
    place = Folder(files=files, url=output.folder(ended.job.id), tell=tell, patience_seconds=patience_seconds)
    earlier = _remove_what_says_it_is_whole(folder, place)
    parts = _Parts(place, output, part_bytes, ended.job.total_batch_count)
    rows = parts.write(folder, ended.segments)
    for name in earlier - {facts["name"] for facts in place.written}:
        if name.startswith("part-"):  # of an earlier version of ours, which has cut elsewhere
            place.remove(name)
    manifest = _write_lists(ended, folder, place, part_bytes)
    place.write(MANIFEST, json.dumps({**manifest, "files": parts.files}, indent=2).encode() + b"\n")
    written = exported_lines(place.written)
    if is_success:
        _mark_as_success(place)
    write_durably(folder.exported, written)
    sync_file(folder.root)
    return Written(files=len(parts.files), rows=rows)


def _output_of(ended: Ended) -> Output:
    if ended.job.output is None:
        raise ValueError(f"job {ended.job.id} has no place for its results")
    return ended.job.output


def _remove_what_says_it_is_whole(folder: JobFolder, place: Folder) -> set[str]:
    """Begin as if nothing had been written before; give the names of what is there."""
    folder.exported.unlink(missing_ok=True)
    place.remove_unfinished()
    place.remove_unfinished(LISTS)
    names = set(place.names())
    for name in (SUCCESS, MANIFEST):
        if name in names:
            place.remove(name)
    return names


def _mark_as_success(place: Folder) -> None:
    """Write the mark; where that fails, the Job does not succeed, and no manifest is to say that it did."""
    try:
        place.write(SUCCESS, b"")
    except FilesError:
        with suppress(FilesError):  # a storage that does not answer keeps it
            place.files.remove(f"{place.url}/{MANIFEST}")
        raise


class _Parts:
    """The files of rows."""

    def __init__(self, place: Folder, output: Output, part_bytes: int, total_batch_count: int) -> None:
        self._place = place
        self._output = output
        self._part_bytes = part_bytes
        self._total = total_batch_count
        self.files: list[Facts] = []

    def write(self, folder: JobFolder, segments: Iterable[SegmentRange]) -> int:
        """Write the rows of all Batches; give how many there are. At least one file is written."""
        segments = list(segments)
        columns = Columns()
        if self._output.format is not OutputFormat.JSON_LINES:
            for batch in read_batches(folder, segments, has_input=False):
                columns.look_at(batch.lines())
        new_encoder = encoder_maker(self._output, columns)
        encoder, rows, total_rows, first = new_encoder(), 0, 0, 0
        for batch in read_batches(folder, segments, has_input=self._output.include_input):
            if rows and encoder.size_bytes >= self._part_bytes:
                self._finish(encoder, rows, first, batch.batch)
                encoder, rows, first = new_encoder(), 0, batch.batch
            encoder.add(batch)
            rows += _count(batch)
            total_rows += _count(batch)
        self._finish(encoder, rows, first, self._total)
        return total_rows

    def _finish(self, encoder: Encoder, rows: int, first: int, end: int) -> None:
        name = f"part-{len(self.files):05}.{self._output.format}"
        about = {"rows": rows, "first_batch": first, "end_batch": end}
        self.files.append(self._place.write(name, encoder.finish(), about))


def _count(batch: BatchRows) -> int:
    return batch.data.count(b"\n")


def _write_lists(ended: Ended, folder: JobFolder, place: Folder, part_bytes: int) -> dict[str, Any]:
    """Write the inputs and the Batches; give the manifest but for its files."""
    job, receipt = ended.job, Receipt(folder)
    inputs = _write_list(place, "inputs", input_lines(folder), part_bytes)
    lines = receipt.batch_lines(job, ended.segments, ended.deaths, 0, job.total_batch_count)
    batches = _write_list(place, "batches", lines, part_bytes)
    return {"job": ended.facts, "totals": receipt.totals(job), "inputs": inputs, "batches": batches}


def _write_list(place: Folder, name: str, lines: Iterator[bytes], part_bytes: int) -> list[Facts]:
    """Write lines to as many files as it takes; none where there are no lines."""
    files: list[Facts] = []
    data, count = bytearray(), 0

    def finish() -> None:
        files.append(place.write(f"{LISTS}/{name}-{len(files):05}.jsonl", bytes(data), {"lines": count}))

    for line in lines:
        data += line
        count += 1
        if len(data) >= part_bytes:
            finish()
            data, count = bytearray(), 0
    if count:
        finish()
    return files
