"""Batches that stay in a file of the user's are what they were when they were submitted, or are not given at all."""

import json
import os
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import BatchState
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.rerun import RerunWhat
from cortex.storage.inherit import Inheritance
from cortex.storage.payload import read_payload
from cortex.storage.segments import SegmentDamaged, SegmentWriter
from cortex.worker.segment import DataDamaged, LeasedSegment
from cortex.worker.source import OpenSource, SourceChanged, SourceFile

BATCHES = [b"1\n2\n", b'"a"\r\n"b"\r\n', b"[3]\n4"]
PAYLOADS = [[1, 2], ["a", "b"], [[3], 4]]
CHANGED = "has changed since the job was submitted"


def refer(folder: JobFolder, path: Path, before: bytes = b"0\n", batches: list[bytes] = BATCHES) -> SegmentRange:
    """Make a Job with one Segment whose Batches stay in a file."""
    path.write_bytes(before + b"".join(batches))
    status = path.stat()
    facts = {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}
    source = SourceFile(**facts, base=len(before))
    offsets = [sum(map(len, batches[:count])) for count in range(len(batches) + 1)]
    with SegmentWriter(folder) as writer:
        return writer.refer(source, array("I", offsets).tobytes())


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "lines"


@pytest.fixture
def folder(tmp_path) -> JobFolder:
    return JobFolder(tmp_path / "jobs" / "67160ace060e3bfa")


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"1", b"7"))
    os.utime(path, ns=(1, 1))  # the clock may not have ticked since


def grow(path: Path) -> None:
    with path.open("ab") as lines:
        lines.write(b"\n5")


def cut(path: Path) -> None:
    os.truncate(path, 5)


def replace(path: Path) -> None:
    status, other = path.stat(), path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)


def broken(*_: object) -> bytes:
    raise OSError(5, "broken")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


CHANGES = [
    (rewrite, CHANGED),
    (grow, CHANGED),
    (cut, CHANGED),
    (replace, CHANGED),
    (make_fifo, CHANGED),
    (Path.unlink, "has been removed since the job was submitted"),
    (make_unreadable, "cannot be read any more: Too many levels of symbolic links"),
]
each_change = pytest.mark.parametrize(("change", "problem"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])


def read(folder: JobFolder, segment: SegmentRange) -> tuple[list[bytes], Exception]:
    """Give all payloads, as a Worker reads them, and its problem."""
    leased = LeasedSegment(folder, segment.number, segment.first)
    payloads = [payload for _, payload in leased.batches(segment.first, segment.end)]
    leased.close()
    return payloads, leased.problem()


def test_lines_are_given_as_arrays_to_workers_and_to_those_who_look(folder, file):
    segment = refer(folder, file)

    payloads, _ = read(folder, segment)

    assert PAYLOADS == [json.loads(payload) for payload in payloads]
    assert list(enumerate(payloads)) == list(read_payload(folder, segment, range(3)))
    assert [(2, payloads[2])] == list(read_payload(folder, segment, [2]))


@given(st.lists(st.integers(0, 10**9).map(lambda n: b"%d\n" % n * (n % 5 + 1)), min_size=1, max_size=30), st.data())
def test_any_lease_gives_its_lines(tmp_path_factory, batches, data):
    root = tmp_path_factory.mktemp("job")
    segment = refer(JobFolder(root / "job"), root / "lines", batches=batches)
    first = data.draw(st.integers(0, len(batches)))
    end = data.draw(st.integers(first, len(batches)))

    leased = LeasedSegment(JobFolder(root / "job"), 0, 0)
    given = [(batch, json.loads(payload)) for batch, payload in leased.batches(first, end)]
    leased.close()

    assert segment.count == len(batches)
    assert [(n, [int(line) for line in batches[n].split()]) for n in range(first, end)] == given


@each_change
def test_nothing_is_given_of_a_file_that_has_changed(folder, file, change: Callable[[Path], None], problem):
    segment = refer(folder, file)
    change(file)

    payloads, told = read(folder, segment)

    assert [b"", b"", b""] == payloads
    assert isinstance(told, SourceChanged)
    assert f"`{file}` {problem}; predict was not called" == str(told)
    with pytest.raises(SegmentDamaged, match=problem):
        list(read_payload(folder, segment, [0]))


def test_who_wants_no_batch_is_not_told_that_the_file_has_changed(folder, file):
    segment = refer(folder, file)
    rewrite(file)

    assert [] == list(read_payload(folder, segment, []))


@pytest.mark.parametrize("change", [rewrite, grow, cut])
def test_nothing_more_is_given_of_a_file_that_changes_while_it_is_read(folder, file, change):
    large = [b'"' + b"x" * 3_000_000 + b'"\n'] * 3
    refer(folder, file, batches=large)

    leased = LeasedSegment(folder, 0, 0)
    batches = leased.batches(0, 3)
    first = next(batches)
    change(file)
    rest = list(batches)
    leased.close()

    assert (0, ["x" * 3_000_000]) == (first[0], json.loads(first[1]))
    assert [(1, b""), (2, b"")] == rest
    assert CHANGED in str(leased.problem())


@pytest.mark.parametrize("change", [replace, Path.unlink])
def test_what_is_open_is_read_to_the_end_if_only_its_name_is_gone(folder, file, change):
    refer(folder, file)

    leased = LeasedSegment(folder, 0, 0)
    given = list(leased.batches(0, 1))
    change(file)
    given += leased.batches(1, 3)
    leased.close()

    assert PAYLOADS == [json.loads(payload) for _, payload in given]


@given(at=st.integers(0, 10**6), byte=st.integers(1, 255), which=st.sampled_from(["source", "offsets"]))
def test_nothing_is_given_where_any_byte_that_tells_of_the_file_is_damaged(tmp_path_factory, at, byte, which):
    root = tmp_path_factory.mktemp("job")
    folder = JobFolder(root / "job")
    segment = refer(folder, root / "lines")
    path = getattr(folder, which)(0)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= byte
    path.write_bytes(data)

    payloads, problem = read(folder, segment)

    assert [b"", b"", b""] == payloads
    assert isinstance(problem, DataDamaged)


def test_a_file_whose_name_is_not_utf_8_is_named_all_the_same(folder, tmp_path, monkeypatch):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xffnes"))
    segment = refer(folder, file)

    assert PAYLOADS == [json.loads(payload) for payload in read(folder, segment)[0]]
    source = OpenSource(folder.source(0), folder.offsets(0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", broken)
        with pytest.raises(SourceChanged, match=r"/l\\xffnes` cannot be read any more: broken"):
            source.read(1, 0)
    source.close()
    file.unlink()
    assert "/l\\xffnes` has been removed" in str(read(folder, segment)[1])


def test_a_segment_of_which_a_killed_writer_has_left_the_other_kind_is_of_one_kind(folder, file):
    segment = refer(folder, file)
    with SegmentWriter(folder) as writer:
        writer.extend([b"[5]"])
        writer.complete()
    assert [b"[5]"] == read(folder, SegmentRange(number=0, first=0, count=1))[0]
    assert ["000000.offsets", "000000.payload", "000000.states"] == sorted(p.name for p in folder.segments.iterdir())

    assert segment == refer(folder, file)
    assert PAYLOADS == [json.loads(payload) for payload in read(folder, segment)[0]]
    assert ["000000.offsets", "000000.source", "000000.states"] == sorted(p.name for p in folder.segments.iterdir())


def test_of_a_segment_that_finds_no_room_nothing_is_left(folder, file, monkeypatch):
    def fail(path: Path, data: bytes) -> None:
        path.write_bytes(data[:1])
        if path.suffix == ".states":
            raise OSError("full")

    monkeypatch.setattr("cortex.storage.segments.write_durably", fail)

    with pytest.raises(OSError, match="full"):
        refer(folder, file)

    assert [] == list(folder.segments.iterdir())


def inherit(folder: JobFolder, segment: SegmentRange, what: RerunWhat, *states: BatchState) -> JobFolder:
    folder.states(segment.number).write_bytes(bytes(states))
    rerun = JobFolder(folder.root.parent / "6716000000000000")
    Inheritance(earlier=folder, folder=rerun, segments=[segment], what=what, items_are_files=False).take()
    return rerun


OK, FAILED = BatchState.SUCCEEDED, BatchState.FAILED


def test_a_rerun_reads_the_same_lines(folder, file):
    segment = refer(folder, file)

    rerun = inherit(folder, segment, RerunWhat.FAILED, OK, FAILED, OK)

    assert read(folder, segment)[0] == read(rerun, segment)[0]


@pytest.mark.parametrize("what", [RerunWhat.FAILED, RerunWhat.ALL])
def test_what_is_to_run_again_must_be_what_it_was(folder, file, what):
    segment = refer(folder, file)
    rewrite(file)

    with pytest.raises(SegmentDamaged, match=CHANGED):
        inherit(folder, segment, what, OK, FAILED, OK)


@pytest.mark.parametrize("what", [RerunWhat.FAILED, RerunWhat.HOOK])
def test_what_is_not_to_run_again_may_have_changed(folder, file, what):
    segment = refer(folder, file)
    file.unlink()

    rerun = inherit(folder, segment, what, OK, OK, OK)

    assert rerun.source(0).exists()
