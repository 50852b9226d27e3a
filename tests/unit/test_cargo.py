"""What leases carry to workers elsewhere: packed here, and read there as a worker reads it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import Page
from cortex.domain.frame import MAX_FRAME_BYTES, Frame, encode
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.operator.stations import cargo as cargo_module
from cortex.operator.stations.cargo import MOST_LEASE_BYTES, Cargo, fitting
from cortex.station.mirror import Mirror
from cortex.storage.segments import index_of, write_segments
from cortex.worker.segment import DataDamaged, LeasedSegment
from cortex.worker.source import SourceChanged, SourceFile
from scripted_station import WORKER


@pytest.fixture
def cargo() -> Iterator[Cargo]:
    cargo = Cargo()
    yield cargo
    for root, _ in list(cargo._open):
        cargo.forget(JobFolder(root))


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    (tmp_path / "mirror").mkdir()
    return Mirror(tmp_path / "mirror", WORKER)


def lease_of(first: int, end: int, **more: Any) -> Frame:
    return {"type": "lease", "token": 5, "segment": 0, "segment_first": 0, "first": first, "end": end, **more}


def write_lines(folder: JobFolder, lines: Sequence[bytes]) -> None:
    """Make a Segment of one line each."""
    folder.segments.mkdir(parents=True)
    folder.lines(0).write_bytes(b"".join(lines))
    folder.offsets(0).write_bytes(index_of(lines))
    folder.states(0).write_bytes(bytes(len(lines)))


def write_source(folder: JobFolder, path: Path, lines: Sequence[bytes]) -> None:
    """Make a Segment of lines that stay in a file of the user's."""
    folder.segments.mkdir(parents=True)
    path.write_bytes(b"".join(lines))
    index = index_of(lines)[: 4 * (len(lines) + 1)]
    about = path.stat()
    facts = {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "inode": about.st_ino}
    source = SourceFile(path=str(path), base=0, **facts).with_index(index)
    folder.source(0).write_bytes(source.to_json())
    folder.offsets(0).write_bytes(index)
    folder.states(0).write_bytes(bytes(len(lines)))


def received(cargo: Cargo, folder: JobFolder, mirror: Mirror, lease: Frame) -> tuple[Frame, LeasedSegment]:
    """Pack a Lease, and have a mirror receive it; give what the Worker is told, and its Segment there."""
    for frame, data in cargo.pack(folder, lease):
        assert len(encode(frame, data)) <= MAX_FRAME_BYTES
        assert data is not None
        if frame["type"] == "payload":
            mirror.take_piece(data)
        else:
            told = mirror.begin(frame, data)
    return told, LeasedSegment(mirror.folder, told["segment"], told["segment_first"])


def test_the_worker_reads_the_batches_of_its_lease_and_of_the_next(
    cargo: Cargo, mirror: Mirror, tmp_path: Path
) -> None:
    folder = JobFolder(tmp_path / "job")
    write_segments(folder, [b"[%d]" % number for number in range(100)])

    for first, end in ((8, 12), (95, 100), (0, 1)):
        told, segment = received(cargo, folder, mirror, lease_of(first, end, attempt=2))
        assert list(segment.batches(first, end)) == [(number, b"[%d]" % number) for number in range(first, end)]
        assert (told["first"], told["end"], told["token"], told["attempt"]) == (first, end, 5, 2)
        assert told.keys().isdisjoint({"payload", "index", "problem"})
        segment.close()


def test_lines_come_as_the_arrays_that_they_are_items_of(cargo: Cargo, mirror: Mirror, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    write_lines(folder, [b'{"a":1}\n2\n', b"3"])

    _, segment = received(cargo, folder, mirror, lease_of(0, 2))

    assert list(segment.batches(0, 2)) == [(0, b'[{"a":1},2]'), (1, b"[3]")]


def test_what_stays_in_a_file_of_the_user_is_read_there_until_it_changes(
    cargo: Cargo, mirror: Mirror, tmp_path: Path
) -> None:
    folder, source = JobFolder(tmp_path / "job"), tmp_path / "items.jsonl"
    write_source(folder, source, [b"1\n", b"2\n"])
    _, segment = received(cargo, folder, mirror, lease_of(0, 1))
    assert list(segment.batches(0, 1)) == [(0, b"[1]")]

    source.write_bytes(b"something else")
    _, segment = received(cargo, folder, mirror, lease_of(1, 2))

    assert list(segment.batches(1, 2)) == [(1, b"")]
    assert isinstance(segment.problem(), SourceChanged)
    assert str(segment.problem()) == f"`{source}` has changed since the job was submitted; predict was not called"


@pytest.mark.parametrize("harm", ["payload", "offsets", "no payload"])
def test_a_batch_that_is_damaged_here_is_so_there_and_the_others_are_whole(
    cargo: Cargo, mirror: Mirror, tmp_path: Path, harm: str
) -> None:
    folder = JobFolder(tmp_path / "job")
    write_segments(folder, [b"[1]", b"[2]", b"[3]"])
    if harm == "payload":
        folder.payload(0).write_bytes(b"[1][X][3]")
    elif harm == "offsets":
        folder.offsets(0).write_bytes(folder.offsets(0).read_bytes()[:12])
    else:
        folder.payload(0).unlink()

    _, segment = received(cargo, folder, mirror, lease_of(0, 3))

    whole = {0: b"[1]", 2: b"[3]"} if harm == "payload" else {}
    assert list(segment.batches(0, 3)) == [(number, whole.get(number, b"")) for number in range(3)]
    assert isinstance(segment.problem(), DataDamaged)


def test_a_batch_that_is_larger_than_a_lease_may_be_comes_in_pieces(
    cargo: Cargo, mirror: Mirror, tmp_path: Path
) -> None:
    folder = JobFolder(tmp_path / "job")
    large = b'["%b"]' % (b"x" * (MAX_FRAME_BYTES + 10))
    (segment_range,) = write_segments(folder, [b"[0]", large])
    assert fitting(folder, segment_range, 1, 2, most_bytes=MOST_LEASE_BYTES) == 1

    _, segment = received(cargo, folder, mirror, lease_of(1, 2))

    assert list(segment.batches(1, 2)) == [(1, large)]


@pytest.mark.parametrize("most_kept", [100, 3])
def test_a_batch_that_is_run_in_part_comes_with_what_was_kept_of_it_unless_that_is_very_much(
    cargo: Cargo, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_kept: int
) -> None:
    monkeypatch.setattr(cargo_module, "_MOST_KEPT_BYTES", most_kept)
    folder = JobFolder(tmp_path / "job")
    write_segments(folder, [b"[1,2]"])
    folder.rows("earlier").write_bytes(b"before\n{1}\nafter\n")
    kept = {"worker": "earlier", "offset": 7, "length": 4, "failed": [[1, 2, 1]]}

    told, segment = received(cargo, folder, mirror, lease_of(0, 1, kept=kept))

    assert list(segment.batches(0, 1)) == [(0, b"[1,2]")]
    there = mirror.folder.rows(told["kept"]["worker"])
    assert there.exists() == (most_kept == 100)
    if there.exists():
        assert there.read_bytes()[told["kept"]["offset"] :][: told["kept"]["length"]] == b"{1}\n"


def test_the_page_there_says_which_lease_is_held(cargo: Cargo, mirror: Mirror, tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    write_segments(folder, [b"[0]"] * 9)
    received(cargo, folder, mirror, lease_of(3, 7))

    page = memoryview(mirror.folder.page(WORKER).read_bytes()).cast("Q")
    assert (page[Page.TOKEN], page[Page.FIRST], page[Page.LIMIT]) == (5, 3, 7)


def test_files_stay_open_between_leases_but_few_of_them_and_none_of_a_job_that_is_over(
    cargo: Cargo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cargo_module, "_MOST_OPEN", 2)
    folders = [JobFolder(tmp_path / name) for name in "abc"]
    for folder in folders:
        write_segments(folder, [b"[0]"])
        for _ in range(2):
            list(cargo.pack(folder, lease_of(0, 1)))

    assert [root.name for root, _ in cargo._open] == ["b", "c"]
    cargo.forget(folders[1])
    assert [root.name for root, _ in cargo._open] == ["c"]


@given(sizes=st.lists(st.integers(2, 40), min_size=1, max_size=20), data=st.data())
def test_a_lease_has_as_many_batches_as_fit_and_one_at_least(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    folder = JobFolder(tmp_path_factory.mktemp("job"))
    folder.segments.mkdir()
    folder.offsets(0).write_bytes(index_of([b"x" * size for size in sizes]))
    segment = SegmentRange(number=0, first=100, count=len(sizes))
    first = data.draw(st.integers(0, len(sizes) - 1))
    end = data.draw(st.integers(first + 1, len(sizes)))
    most_bytes = data.draw(st.integers(1, 200))

    count = fitting(folder, segment, 100 + first, 100 + end, most_bytes=most_bytes)

    assert count == 1 or sum(sizes[first : first + count]) <= most_bytes
    assert first + count == end or sum(sizes[first : first + count + 1]) > most_bytes


def test_where_nothing_can_be_read_a_lease_is_as_long_as_any_other(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.segments.mkdir()
    segment = SegmentRange(number=0, first=0, count=9)

    assert fitting(folder, segment, 2, 5, most_bytes=1) == 3
    folder.offsets(0).write_bytes(bytes(12))
    assert fitting(folder, segment, 2, 5, most_bytes=1) == 3
