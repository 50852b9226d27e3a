"""Checking a Job's receipt again: is all there, and is it what was written?"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cortex.domain.batch import OFFSET_BYTES, SUCCESSES, BatchState, ResultEntry
from cortex.domain.errors import FilesError
from cortex.domain.identity import batch_id
from cortex.domain.job import Job, JobStatus, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.listing import read_listing
from cortex.enqueuing.portions import selection
from cortex.exporting.events import Ended
from cortex.exporting.receipt import read_exported
from cortex.exporting.write import SUCCESS
from cortex.files.files import FileInfo, Files
from cortex.files.selection import beginning, select
from cortex.storage.payload import read_payload, source_of
from cortex.storage.results import read_endings, read_left
from cortex.storage.segments import SegmentDamaged, copied_items
from cortex.worker.source import SourceChanged, SourceFile

_MOST_PROBLEMS: Final = 100
"""So many are named; of the others there is only the number."""

_CHECKED: Final = (
    *("batches", "succeeded", "failed", "open"),
    *("items", "succeeded_items", "failed_items", "open_items"),
    *("rows", "bytes", "files", "inputs"),
)
_READ_BYTES: Final = 1024 * 1024

_Left = tuple[ResultEntry, bytes] | None


@dataclass(slots=True, kw_only=True)
class _Findings:
    checked: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem)


def verify(files: Files, ended: Ended, folder: JobFolder) -> dict[str, Any]:
    """Read everything again. Gives what was checked, and every problem, in the words of a user.

    Complete is a Job that has ended, with every Batch; intact one that has all that its receipt names. What has
    changed where its inputs come from is a note, and no problem.
    """
    findings = _Findings()
    for segment in ended.segments:
        _check_payload(folder, segment, findings)
        _check_batches(ended.job, folder, segment, findings)
    _check_totals(ended.job, findings)
    _check_exported(files, ended.job, folder, findings)
    _check_inputs(files, ended.job, folder, findings)
    if unnamed := findings.problem_count - len(findings.problems):
        findings.problems.append(f"and {unnamed} more")
    return {
        "job_id": ended.job.id,
        "is_complete": ended.job.is_final and not findings.checked["open"],
        "is_intact": not findings.problems,
        "checked": {name: findings.checked[name] for name in _CHECKED},
        "problems": findings.problems,
        "notes": findings.notes,
    }


def _check_payload(folder: JobFolder, segment: SegmentRange, findings: _Findings) -> None:
    """Look whether the Items are there: a rerun needs them, and whoever reads those that failed."""
    offsets, payload = folder.offsets(segment.number), copied_items(folder, segment)
    try:
        if (source := source_of(folder, segment)) is not None:
            _check_source(folder, segment, source, findings)
            return
        end = int.from_bytes(_read_at(offsets, OFFSET_BYTES * segment.count, OFFSET_BYTES), "little")
        if payload.stat().st_size != end:
            findings.add(f"segment {segment.number}: `{payload}` does not have the {end} bytes that were written")
            return
        for _ in read_payload(folder, segment, range(segment.first, segment.end)):
            pass  # each is compared with its checksum
    except (OSError, SegmentDamaged) as error:
        findings.add(f"segment {segment.number}: {error}")


def _check_source(folder: JobFolder, segment: SegmentRange, source: SourceFile, findings: _Findings) -> None:
    """Look whether the index is what was written. A file that is another one now is where inputs come from: a note."""
    if not source.is_with(folder.offsets(segment.number)):
        index, named = folder.offsets(segment.number), folder.source(segment.number)
        findings.add(f"segment {segment.number}: `{index}` or `{named}` is not what was written")
    try:
        os.close(source.open())
    except SourceChanged as error:
        note = f"{error}, so its batches cannot be run again"
        if note not in findings.notes:
            findings.notes.append(note)


def _read_at(path: Path, offset: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise SegmentDamaged(f"`{path}` is cut short")
    return data


def _check_batches(job: Job, folder: JobFolder, segment: SegmentRange, findings: _Findings) -> None:
    checked, without_failure = findings.checked, list[int]()
    try:
        for batch, state, rows, failure in read_left(folder, segment):
            items = job.items_of(batch)
            failed_items = _failed_items(items, state, failure)
            has_failed = state not in SUCCESSES
            checked["failed" if has_failed else "succeeded"] += 1
            checked["failed_items"] += failed_items
            checked["succeeded_items"] += items - failed_items
            checked["rows"] += rows[0].rows if rows else 0
            checked["bytes"] += sum(len(left[1]) for left in (rows, failure) if left)
            if problem := _problem(state, rows):
                findings.add(f"batch {batch_id(job.names_batches, batch)}: {problem}")
            elif state is BatchState.FAILED and failure is None:
                without_failure.append(batch)
        _check_why_they_failed(job, folder, segment, without_failure, findings)
    except (OSError, SegmentDamaged, ValueError) as error:
        findings.add(f"segment {segment.number}: {error}")


def _check_why_they_failed(
    job: Job, folder: JobFolder, segment: SegmentRange, batches: Sequence[int], findings: _Findings
) -> None:
    """Tell what is damaged from what a full disk never took: of that, not even an entry was written."""
    if not batches:
        return
    endings = read_endings(folder, [segment], batches[0], batches[-1] + 1)
    told = {batch for batch, _, _, failure in endings if failure}
    for batch in batches:
        if batch in told:
            findings.add(f"batch {batch_id(job.names_batches, batch)}: why it has failed is missing or damaged")
        else:
            findings.checked["failures_not_stored"] += 1


def _failed_items(items: int, state: BatchState, failure: _Left) -> int:
    if state in SUCCESSES:
        return 0
    return failure[0].rows if state is BatchState.FAILED_IN_PART and failure else items


def _problem(state: BatchState, rows: _Left) -> str | None:
    """Say what is wrong with what a Batch has left."""
    if state in (BatchState.SUCCEEDED_WITH_ROWS, BatchState.FAILED_IN_PART) and rows is None:
        return "its rows are missing or damaged"
    if rows is None:
        return None
    count, written = rows[1].count(b"\n"), rows[0].rows
    return None if count == written else f"it has {count} rows, not the {written} that were counted"


def _check_totals(job: Job, findings: _Findings) -> None:
    checked = findings.checked
    checked["batches"] = job.total_batch_count
    checked["open"] = job.total_batch_count - checked["succeeded"] - checked["failed"]
    checked["items"] = job.item_count
    checked["open_items"] = job.item_count - checked["succeeded_items"] - checked["failed_items"]
    counts = job.final_counts
    if not_stored := checked["failures_not_stored"]:
        findings.notes.append(f"why {not_stored} of its batches have failed could not be stored")
    if counts and (counts.succeeded, counts.failed) != (checked["succeeded"], checked["failed"]):
        findings.add(
            f"of its batches {checked['succeeded']} have succeeded and {checked['failed']} have failed,"
            f" but it ended with {counts.succeeded} and {counts.failed}"
        )


def _check_exported(files: Files, job: Job, folder: JobFolder, findings: _Findings) -> None:
    if job.output is None:
        return
    url = job.output.folder(job.id)
    is_any = False
    for facts in read_exported(folder.exported):
        is_any = True
        findings.checked["files"] += 1
        try:
            problem = _problem_of_file(files, f"{url}/{facts['name']}", facts)
        except FilesError as error:
            problem = error.message
        if problem:
            findings.add(problem)
    if is_any and job.status is JobStatus.SUCCEEDED and not _is_there(files, f"{url}/{SUCCESS}", findings):
        findings.add(f"`{url}/{SUCCESS}` is missing")
    if job.is_final and not is_any:
        findings.notes.append(f"its results were never all written to `{url}`")


def _is_there(files: Files, url: str, findings: _Findings) -> bool:
    try:
        return any(file.url == url for file in files.list(url))
    except FilesError as error:
        findings.add(error.message)
        return True


def _problem_of_file(files: Files, url: str, facts: dict[str, Any]) -> str | None:
    found = next((file for file in files.list(url) if file.url == url), None)
    if found is None:
        return f"`{url}` is missing"
    if found.size_bytes != facts["bytes"]:
        return f"`{url}` has {found.size_bytes} bytes, not the {facts['bytes']} that were written"
    digest = hashlib.sha256()
    with files.open(found) as content:
        while block := content.read(_READ_BYTES):
            digest.update(block)
    return None if digest.hexdigest() == facts["sha256"] else f"`{url}` does not hold what was written"


def _check_inputs(files: Files, job: Job, folder: JobFolder, findings: _Findings) -> None:
    """Compare the list of the inputs with what is there now, file by file in one order."""
    if job.source is None or not folder.listing.exists():
        return
    is_sent = any(path.startswith(f"{folder.root.parent}/") for path in job.source.paths)
    if is_sent and job.source.kind is SourceKind.DELIMITED_FILES:
        findings.notes.append("its inputs were sent to the operator, which does not keep them")
        return
    seen: Counter[str] = Counter()
    examples: dict[str, str] = {}
    try:
        for what, url in _differences(files, job.source, folder):
            seen[what] += 1
            examples.setdefault(what, url)
    except FilesError as error:
        findings.notes.append(f"its inputs cannot be looked at: {error.message}")
    findings.checked["inputs"] = seen.pop("the same", 0) + seen["changed"] + seen["gone"]
    findings.notes += [
        f"{count} of its inputs {what}, for example `{examples[name]}`"
        for name, what in (
            ("changed", "have changed since they were listed"),
            ("gone", "have gone since they were listed"),
            ("new", "would be new: they were not there when it was submitted"),
        )
        if (count := seen[name])
    ]


def _differences(files: Files, source: FileSource, folder: JobFolder) -> Iterator[tuple[str, str]]:
    """Give each input with what became of it. Both lists go path by path, and by URL in each."""
    beginnings = [*map(beginning, source.paths)]
    then = ((_place(beginnings, file.url), file) for file in read_listing(folder))
    now = (((index, file.url.encode()), file) for index, file in select(files, selection(source)))
    before, after = next(then, None), next(now, None)
    while before or after:
        if after is None or (before is not None and before[0] < after[0]):
            assert before is not None  # noqa: S101
            yield "gone", before[1].url
            before = next(then, None)
        elif before is None or after[0] < before[0]:
            yield "new", after[1].url
            after = next(now, None)
        else:
            yield "the same" if _is_same(before[1], after[1]) else "changed", before[1].url
            before, after = next(then, None), next(now, None)


def _place(beginnings: Sequence[str], url: str) -> tuple[int, bytes]:
    index = next((index for index, text in enumerate(beginnings) if url.startswith(text)), 0)
    return index, url.encode()


def _is_same(one: FileInfo, other: FileInfo) -> bool:
    return (one.size_bytes, one.version) == (other.size_bytes, other.version)
