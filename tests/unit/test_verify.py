"""`verify` finds what is missing or damaged, and nothing else."""

import json
import os
from array import array
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import BatchState
from cortex.domain.job import Counts, JobStatus
from cortex.domain.output import Output
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing.listing import write_listing
from cortex.enqueuing.portions import selection
from cortex.exporting.verify import verify
from cortex.exporting.write import write
from cortex.files.places import AllFiles
from cortex.files.selection import select
from cortex.storage.segments import SegmentWriter
from cortex.worker.source import SourceFile
from ended_jobs import WORKER, EndedJob, Failed, FailedInPart, Left, Rows, end_job
from s3_server import S3

OUTCOMES = [
    Rows(items=[1, 2], rows=["a", "b"]),
    Failed(items=[3, 4]),
    FailedInPart(items=[5, 6], rows=["c"], failed=[(0, 1, 0)]),
    Left(items=[7, 8], state=BatchState.SUCCEEDED),
    Left(items=[9], state=BatchState.GIVEN_UP),
]


@pytest.fixture
def job(tmp_path: Path) -> EndedJob:
    """A job of two segments whose results were written."""
    job = end_job(tmp_path / "jobs", *OUTCOMES, output=Output(path=str(tmp_path / "out")), per_segment=3)
    write(AllFiles(), job.ended, job.folder, lambda _: None, is_success=False, patience_seconds=0)
    return job


def look(job: EndedJob) -> dict[str, Any]:
    return verify(AllFiles(), job.ended, job.folder)


def test_a_job_that_is_whole_has_no_problems(job: EndedJob) -> None:
    found = look(job)

    counted = {"batches": 5, "succeeded": 2, "failed": 3, "open": 0}
    items = {"items": 9, "succeeded_items": 5, "failed_items": 4, "open_items": 0}
    assert {
        "job_id": job.job.id,
        "is_complete": True,
        "is_intact": True,
        "checked": {**counted, **items, "rows": 3, "bytes": found["checked"]["bytes"], "files": 3, "inputs": 0},
        "problems": [],
        "notes": [],
    } == found


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


DAMAGES: dict[str, tuple[Callable[[EndedJob], object], str]] = {
    "a row": (lambda job: flip(job.folder.rows(WORKER), 1), "000000000000: its rows are missing or damaged"),
    "a failure": (lambda job: flip(job.folder.rows(WORKER), 20), "000000000001: why it has failed is missing or"),
    "the last row": (lambda job: cut(job.folder.rows(WORKER)), "000000000002: its rows are missing or damaged"),
    "all rows": (lambda job: job.folder.rows(WORKER).unlink(), "000000000000: its rows are missing or damaged"),
    "the index": (lambda job: job.folder.index(WORKER).unlink(), "000000000000: its rows are missing or damaged"),
    "states": (lambda job: job.folder.states(1).unlink(), "segment 1: `"),
    "a state": (lambda job: job.folder.states(1).write_bytes(b"\1"), "holds fewer states than the segment has batches"),
    "an impossible state": (lambda job: job.folder.states(1).write_bytes(b"\1\x63"), "segment 1: `"),
    "items": (lambda job: cut(job.folder.payload(0)), "segment 0: `"),
    "an item": (lambda job: flip(job.folder.payload(0), 1), "segment 0: the items of batch 0 in `"),
    "the places of items": (lambda job: job.folder.offsets(1).unlink(), "segment 1: "),
    "the size of a file": (lambda job: cut(exported(job, "part-00000.jsonl")), "has 11 bytes, not the 12 that were"),
    "a file": (lambda job: flip(exported(job, "part-00000.jsonl"), 3), "does not hold what was written"),
    "a missing file": (lambda job: exported(job, "manifest.json").unlink(), "manifest.json` is missing"),
}  # fmt: skip


def exported(job: EndedJob, name: str) -> Path:
    assert job.job.output is not None
    return Path(job.job.output.folder(job.job.id)) / name


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_damaged_is_named(job: EndedJob, what: str) -> None:
    damage, expected = DAMAGES[what]

    damage(job)

    found = look(job)
    assert not found["is_intact"]
    assert any(expected in problem for problem in found["problems"]), found["problems"]
    assert len(found["problems"]) <= 4


def test_a_job_that_has_succeeded_lacks_the_mark_that_somebody_removed(tmp_path: Path) -> None:
    job = end_job(tmp_path / "jobs", Rows(items=[1], rows=["a"]), output=Output(path=str(tmp_path / "out")))
    write(AllFiles(), job.ended, job.folder, lambda _: None, is_success=True, patience_seconds=0)
    mark = tmp_path / "out" / job.job.id / "_SUCCESS"
    assert look(job)["is_intact"]

    mark.unlink()

    assert [f"`{mark}` is missing"] == look(job)["problems"]


def test_batches_without_a_state_are_open(job: EndedJob) -> None:
    job.folder.states(1).unlink()

    found = look(job)

    assert (False, 2, 3) == (found["is_complete"], found["checked"]["open"], found["checked"]["open_items"])


def test_a_job_that_runs_is_not_complete_but_intact(tmp_path: Path) -> None:
    job = end_job(
        tmp_path,
        *(Rows(items=[1], rows=[1]), Left(items=[2], state=BatchState.OPEN)),
        status=JobStatus.RUNNING,
        final_counts=None,
    )

    found = look(job)

    assert (False, True) == (found["is_complete"], found["is_intact"])
    assert (1, 1) == (found["checked"]["open"], found["checked"]["open_items"])


def test_a_job_whose_ending_was_counted_otherwise_is_not_intact(job: EndedJob) -> None:
    counts = Counts(succeeded=3, failed=2)

    found = look(replace(job, job=replace(job.job, final_counts=counts)))

    expected = "of its batches 2 have succeeded and 3 have failed, but it ended with 3 and 2"
    assert [expected] == found["problems"]


def test_rows_that_were_counted_otherwise_are_a_problem(tmp_path: Path) -> None:
    job = end_job(tmp_path, Rows(items=[1], rows=[b"1\n2"]))

    found = look(job)

    assert ["it has 2 rows, not the 1 that were counted"] == [text.partition(": ")[2] for text in found["problems"]]


def test_a_failure_that_a_full_disk_never_took_is_no_damage(tmp_path: Path) -> None:
    job = end_job(tmp_path, Rows(items=[1], rows=[1]), Left(items=[2], state=BatchState.FAILED))

    found = look(replace(job, job=replace(job.job, final_counts=None)))

    assert ([], ["why 1 of its batches have failed could not be stored"]) == (found["problems"], found["notes"])


def test_of_countless_problems_the_first_are_named(tmp_path: Path) -> None:
    job = end_job(tmp_path, *(Rows(items=[number], rows=[number]) for number in range(150)))
    job.folder.rows(WORKER).unlink()

    found = look(job)

    assert (101, "and 50 more") == (len(found["problems"]), found["problems"][-1])


def test_inputs_that_have_changed_are_a_note(job: EndedJob, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a", "b", "c"):
        (data / name).write_text("1\n")
    source = FileSource(kind=SourceKind.DELIMITED_FILES, paths=(f"{data}/b", f"{data}/"), batch_size=2)
    write_listing(job.folder, (file for _, file in select(AllFiles(), selection(source))))
    job = replace(job, job=replace(job.job, source=source))
    before = look(job)

    (data / "a").write_text("2\n2\n")
    (data / "b").unlink()
    (data / "d").write_text("1\n")
    found = look(job)

    assert (3, []) == (before["checked"]["inputs"], before["notes"])
    assert (True, 3) == (found["is_intact"], found["checked"]["inputs"])
    assert [
        f"1 of its inputs have changed since they were listed, for example `{data}/a`",
        f"1 of its inputs have gone since they were listed, for example `{data}/b`",
        f"1 of its inputs would be new: they were not there when it was submitted, for example `{data}/d`",
    ] == found["notes"]


def stay(job: EndedJob, file: Path) -> None:
    """Let the Items of the first Segment be in a file of the user's."""
    segment = job.segments[0]
    items = [b"".join(json.dumps(item).encode() + b"\n" for item in outcome.items) for outcome in OUTCOMES[:3]]
    file.write_bytes(b"".join(items))
    status, states = file.stat(), job.folder.states(segment.number).read_bytes()
    source = SourceFile(path=str(file), size=status.st_size, mtime_ns=status.st_mtime_ns, inode=status.st_ino, base=0)
    with SegmentWriter(job.folder, number=segment.number, first=segment.first) as writer:
        writer.refer(source, array("I", accumulate(map(len, items), initial=0)).tobytes())
    job.folder.states(segment.number).write_bytes(states)


def test_a_file_that_items_have_stayed_in_may_change_but_it_is_noted(job: EndedJob, tmp_path: Path) -> None:
    stay(job, tmp_path / "lines")
    before = look(job)

    (tmp_path / "lines").unlink()
    found = look(job)

    assert (True, []) == (before["is_intact"], before["notes"])
    removed = f"`{tmp_path}/lines` has been removed since the job was submitted"
    assert (True, [f"{removed}, so its batches cannot be run again"]) == (found["is_intact"], found["notes"])


@pytest.mark.parametrize("what", ["offsets", "source"])
def test_what_tells_where_items_have_stayed_must_be_what_was_written(job: EndedJob, tmp_path: Path, what: str) -> None:
    stay(job, tmp_path / "lines")
    path = getattr(job.folder, what)(0)

    path.write_bytes(path.read_bytes().replace(b"\x00", b"\x01").replace(b'"base":0', b'"base":1'))
    found = look(job)

    assert not found["is_intact"]
    assert f"`{path}`" in found["problems"][0]


def test_inputs_below_a_bucket_whose_name_begins_another_ones_are_the_same(job: EndedJob, s3: S3) -> None:
    longer = f"{s3.bucket}-2"
    s3.client.create_bucket(Bucket=longer)
    s3.client.put_object(Bucket=longer, Key="a", Body=b"1")
    s3.put("b")
    paths = (f"s3://{s3.bucket}", f"s3://{longer}")
    source = FileSource(kind=SourceKind.FILE_PATH_LISTER, paths=paths, batch_size=2)
    write_listing(job.folder, (file for _, file in select(AllFiles(), selection(source))))

    found = look(replace(job, job=replace(job.job, source=source)))

    assert (2, []) == (found["checked"]["inputs"], found["notes"])


def test_what_was_found_is_json(job: EndedJob) -> None:
    found = look(job)

    assert found == json.loads(json.dumps(found))
