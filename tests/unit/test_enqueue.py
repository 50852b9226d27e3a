import errno
import gzip
import itertools
import json
import os
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing import incoming, portions
from cortex.enqueuing.enqueue import enqueue
from cortex.enqueuing.events import Enqueued, EnqueuingFailed, FileBegun, NoRoom, SegmentCut
from cortex.enqueuing.listing import read_listing
from cortex.files.places import AllFiles
from cortex.storage.payload import read_payload
from cortex.storage.segments import SegmentDamaged, States
from cortex.worker.segment import LeasedSegment
from full_disk import files_of_at_most

LISTER, DELIMITED = SourceKind
LINES = st.lists(st.sampled_from([b"1", b"", b'"abc"', b" ", b"[2,  3]\r", b"null", b"12345678"]), max_size=12)
CONTENTS = st.builds(
    lambda mark, lines, last: mark + b"\n".join(lines) + last,
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    LINES,
    st.sampled_from([b"", b"\n"]),
)

PLAIN = st.builds(
    lambda lines, end, last: end.join(lines) + last,
    st.lists(st.sampled_from([b"1", b'"\xc3\xa4"', b"[2,  3]", b"null", b'{"a": {}}']), max_size=20),
    st.sampled_from([b"\n", b"\r\n"]),
    st.sampled_from([b"", b"\n"]),
)


class Stopped(Exception):
    """The enqueuer is not to go on."""


def run(folder, source, *, resume=None, segment_bytes=30, stop_after=None, in_place_from_bytes=2**60):
    """Enqueue, up to the end or until so many Segments have been told; give what was told."""
    told = []

    def tell(event):
        told.append(event)
        if len(segments_of(told)) == stop_after and isinstance(event, SegmentCut):
            raise Stopped

    with suppress(Stopped):
        enqueue(
            AllFiles(),
            source,
            folder,
            tell,
            resume=resume,
            segment_bytes=segment_bytes,
            in_place_from_bytes=in_place_from_bytes,
        )
    return told


def segments_of(told):
    return [event for event in told if isinstance(event, SegmentCut)]


def batches_of(folder, segment: SegmentRange) -> list[list[object]]:
    leased = LeasedSegment(folder, segment.number, segment.first)
    batches = [json.loads(batch) for _, batch in leased.batches(segment.first, segment.end)]
    leased.close()
    return batches


def all_batches(folder, told):
    return [batch for cut in segments_of(told) for batch in batches_of(folder, cut.segment)]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.segments.iterdir()}


def write_files(root, contents, *, compressed=()):
    """Write these files; a file of this machine that is compressed is read like one that comes from elsewhere."""
    root.mkdir()
    for number, content in enumerate(contents):
        if number in compressed:
            (root / f"{number:03}.gz").write_bytes(gzip.compress(content))
        else:
            (root / f"{number:03}").write_bytes(content)
    return FileSource(kind=DELIMITED, paths=(f"{root}/",), batch_size=1)


def failure_of(told) -> str:
    assert isinstance(told[-1], EnqueuingFailed)
    return told[-1].reason


@settings(deadline=None, max_examples=40)  # each writes and syncs dozens of files
@given(
    st.lists(CONTENTS, min_size=1, max_size=4),
    st.sets(st.integers(0, 3)),
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from([0, 20, 2**60]),
)
@example([b"1\n\n2\n3\n4\n5\n6\n"], set(), 1, 1, 0)
@example([b"1\n2\n3\n4\n\n5\n6\n"], {0}, 1, 2, 0)
def test_an_enqueuer_that_is_killed_after_every_segment_gives_what_one_gives_that_is_not(
    tmp_path_factory, contents, compressed, batch_size, segment_bytes, in_place_from_bytes
):
    options = {"segment_bytes": segment_bytes, "in_place_from_bytes": in_place_from_bytes}
    root = tmp_path_factory.mktemp("job")
    source = replace(write_files(root / "data", contents, compressed=compressed), batch_size=batch_size)
    whole, killed = JobFolder(root / "whole"), JobFolder(root / "killed")
    expected = run(whole, source, **options)

    told, resume = [], None
    while not told or isinstance(told[-1], SegmentCut):
        left = killed.payload(resume.number if resume else 0)
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"left by the one that was killed" * 10)
        told += run(killed, source, **options, resume=resume, stop_after=1)
        resume = segments_of(told)[-1].resume if segments_of(told) else None
    left.unlink()  # the last one had nothing to cut any more

    assert expected[-1] == told[-1]
    assert segments_of(expected) == segments_of(told)
    assert files_of(whole) == files_of(killed)


@settings(deadline=None, max_examples=40)
@given(st.lists(CONTENTS, min_size=1, max_size=4), st.integers(1, 9))
def test_the_items_of_all_lines_are_in_batches_across_files(tmp_path_factory, contents, batch_size):
    root = tmp_path_factory.mktemp("job")
    plain = write_files(root / "data", contents)
    lines = [line.strip() for content in contents for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    items = [json.loads(line) for line in lines if line]

    told = run(JobFolder(root / "job"), replace(plain, batch_size=batch_size))

    batches = [items[first : first + batch_size] for first in range(0, len(items), batch_size)]
    assert batches == all_batches(JobFolder(root / "job"), told)
    assert len(items) == sum(cut.items for cut in segments_of(told))
    assert isinstance(told[-1], Enqueued if items else EnqueuingFailed)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(CONTENTS | PLAIN, min_size=1, max_size=4),
    st.sets(st.integers(0, 3)),
    st.integers(1, 5),
    st.integers(0, 40),
    st.integers(1, 40),
)
def test_lines_that_stay_or_are_written_down_as_they_come_give_the_batches_that_copied_ones_give(
    tmp_path_factory, contents, compressed, batch_size, in_place_from_bytes, segment_bytes
):
    root = tmp_path_factory.mktemp("job")
    source = replace(write_files(root / "data", contents, compressed=compressed), batch_size=batch_size)
    copied, staying = JobFolder(root / "copied"), JobFolder(root / "staying")

    told = run(copied, source, segment_bytes=segment_bytes)
    also = run(staying, source, segment_bytes=segment_bytes, in_place_from_bytes=in_place_from_bytes)

    assert all_batches(copied, told) == all_batches(staying, also)
    assert all_batches(staying, also) == all_batches_read_by_the_operator(staying, also)
    assert told[-1] == also[-1]
    assert sum(cut.items for cut in segments_of(told)) == sum(cut.items for cut in segments_of(also))
    for cut in segments_of(also):
        number = cut.segment.number
        assert 1 == sum(path(number).exists() for path in (staying.payload, staying.lines, staying.source))


def all_batches_read_by_the_operator(folder, told):
    return [
        json.loads(payload)
        for cut in segments_of(told)
        for _, payload in read_payload(folder, cut.segment, range(cut.segment.first, cut.segment.end))
    ]


STAYS, COMES, COPIED = "stays", "comes", "copied"


def how(folder, told) -> list[tuple[str, int]]:
    """Tell of each Segment how its Batches were taken, and how many they are."""
    kinds = {COPIED: folder.payload, COMES: folder.lines, STAYS: folder.source}
    return [
        (next(kind for kind, path in kinds.items() if path(cut.segment.number).exists()), cut.segment.count)
        for cut in segments_of(told)
    ]


@pytest.mark.parametrize(("kind", "compressed"), [(STAYS, ()), (COMES, range(9))])
@pytest.mark.parametrize(
    ("expected", "contents"),
    [
        ([(True, 4)], [b"1\n2\n3\n4\n5\n6\n7\n8\n"]),
        ([(True, 4)], [b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n"]),
        ([(True, 3), (False, 1)], [b"1\n2\n3\n4\n5\n6\n7"]),
        ([(True, 2), (False, 2)], [b"1\n2\n3\n4\n5\n\n6\n7\n8\n"]),
        ([(True, 1), (False, 3)], [b"1\n2\n 3\n4\n5\n6\n7\n8\n"]),
        ([(True, 2), (False, 1), (True, 2)], [b"1\n2\n3\n4\n5\n", b"6\n7\n8\n9\n10\n"]),
        ([(False, 1), (True, 2)], [b"1", b"2\n3\n4\n5\n6\n"]),
        ([(False, 2)], [b"1", b"2", b"3"]),
    ],
)
def test_of_a_large_file_is_not_copied_what_is_before_its_first_odd_line_and_fills_batches(
    tmp_path, expected, contents, kind, compressed
):
    source = replace(write_files(tmp_path / "data", contents, compressed=compressed), batch_size=2)
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=1000, in_place_from_bytes=0)

    assert [(kind if is_large else COPIED, count) for is_large, count in expected] == how(folder, told)


def test_a_byte_order_mark_and_a_last_line_without_an_end_stay(tmp_path):
    content = b"\xef\xbb\xbf1\n2\n3\n4"
    source = replace(write_files(tmp_path / "data", [content, content], compressed={1}), batch_size=2)
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=1000, in_place_from_bytes=0)

    assert [[1, 2], [3, 4]] * 2 == all_batches(folder, told)
    assert [(STAYS, 2), (COPIED, 2)] == how(folder, told)


def test_small_files_are_copied_and_large_ones_that_are_compressed_or_uploaded_come(tmp_path):
    folder = JobFolder(tmp_path / "job")
    write_files(tmp_path / "data", [b"1\n", b"2\n3\n4\n5\n", b"6\n7\n8\n9\n"], compressed={2})
    write_files(folder.root, [])
    write_files(folder.uploads, [b"10\n11\n12\n13\n"])
    paths = (f"{tmp_path}/data/", f"{folder.uploads}/")
    source = FileSource(kind=DELIMITED, paths=paths, batch_size=1)

    told = run(folder, source, segment_bytes=1000, in_place_from_bytes=8)

    assert [[number] for number in range(1, 14)] == all_batches(folder, told)
    assert [(COPIED, 1), (STAYS, 4), (COMES, 4), (COMES, 4)] == how(folder, told)


def test_what_a_process_that_was_killed_has_left_of_what_comes_is_removed(tmp_path):
    folder = JobFolder(tmp_path / "job")
    folder.segments.mkdir(parents=True)
    folder.draft(7).write_bytes(b"1\n2")

    run(folder, write_files(tmp_path / "data", [b"1\n2\n"], compressed={0}), in_place_from_bytes=0)

    assert {"000000.lines", "000000.offsets", "000000.states"} == files_of(folder).keys()


def test_what_comes_is_on_the_disk_before_a_segment_of_it_is_told(tmp_path, monkeypatch):
    folder, sync, synced = JobFolder(tmp_path / "job"), os.fdatasync, []

    def note(opened):
        sync(opened)
        status = os.fstat(opened)
        synced.append((status.st_ino, status.st_size))

    def tell(event):
        if isinstance(event, SegmentCut):
            status = folder.lines(event.segment.number).stat()
            assert (status.st_ino, status.st_size) in synced
        told.append(event)

    told = []
    source = write_files(tmp_path / "data", [b"1\n" * 1000], compressed={0})
    monkeypatch.setattr(os, "fdatasync", note)
    enqueue(AllFiles(), source, folder, tell, segment_bytes=100, in_place_from_bytes=0)

    assert 20 == len(segments_of(told))


def test_what_comes_waits_for_room_and_goes_on_behind_the_last_segment(tmp_path, monkeypatch):
    source = write_files(tmp_path / "data", [b"".join(b"%d\n" % number for number in range(1000))], compressed={0})
    whole, waited = JobFolder(tmp_path / "whole"), JobFolder(tmp_path / "waited")
    write, calls, left = os.write, itertools.count(), []

    def write_unless_full(file, data):
        if next(calls) in (3, 20):
            raise OSError(errno.ENOSPC, "no room")
        return write(file, data)

    monkeypatch.setattr(incoming, "_READ_BYTES", 100)
    monkeypatch.setattr(time, "sleep", lambda _: left.append(list(waited.segments.glob("*.draft"))))
    expected = run(whole, source, segment_bytes=500, in_place_from_bytes=0)
    monkeypatch.setattr(os, "write", write_unless_full)
    told = run(waited, source, segment_bytes=500, in_place_from_bytes=0)

    assert [NoRoom()] * 2 == [event for event in told if isinstance(event, NoRoom)]
    assert [[], []] == left
    assert segments_of(expected) == segments_of(told)
    assert files_of(whole) == files_of(waited)


@pytest.mark.parametrize(("at", "expected"), [(3, [[1], None, [3]]), (None, [[1], [2], None])])
def test_lines_that_are_not_what_was_written_are_seen_and_cost_no_others(tmp_path, at, expected):
    folder = JobFolder(tmp_path / "job")
    source = write_files(tmp_path / "data", [b"1\n2\n3\n"], compressed={0})
    (cut,) = segments_of(run(folder, source, in_place_from_bytes=0))
    written = folder.lines(0).read_bytes()
    folder.lines(0).write_bytes(written[:-1] if at is None else written[: at - 1] + b"5" + written[at:])

    leased = LeasedSegment(folder, 0, 0)
    found = [json.loads(batch) if batch else None for _, batch in leased.batches(0, 3)]
    leased.close()

    assert expected == found
    with pytest.raises(SegmentDamaged):
        list(read_payload(folder, cut.segment, [expected.index(None)]))


@pytest.mark.parametrize(("kind", "compressed"), [(STAYS, ()), (COMES, {0})])
def test_a_batch_that_may_be_too_large_is_copied_and_white_space_does_not_count(tmp_path, kind, compressed):
    spacious = b"[" + b" " * 200_000 + b"]"
    lines = b"1\n2\n" + spacious + b"\n" + spacious + b"\n3\n4\n"
    source = replace(write_files(tmp_path / "data", [lines], compressed=compressed), batch_size=2)
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=2**20, in_place_from_bytes=0)

    assert [[1, 2], [[], []], [3, 4]] == all_batches(folder, told)
    assert [(kind, 1), (COPIED, 2)] == how(folder, told)


def test_a_batch_that_is_too_large_is_told_by_its_lines_behind_lines_that_stay(tmp_path):
    half = b'"' + b"x" * 140_000 + b'"\n'
    source = replace(write_files(tmp_path / "data", [b"1\n2\n" + half + half]), batch_size=2)

    reason = failure_of(run(JobFolder(tmp_path / "job"), source, segment_bytes=2**20, in_place_from_bytes=0))

    assert reason.startswith(f"`{tmp_path}/data/000` line 3 to `{tmp_path}/data/000` line 4: a batch of 280")


@pytest.mark.parametrize(("name", "compressed"), [("000", ()), ("000.gz", {0})])
def test_a_bad_line_is_told_by_its_number_behind_lines_that_are_not_copied(tmp_path, name, compressed):
    files = write_files(tmp_path / "data", [b"1\n" * 1000 + b"3,\n1\n"], compressed=compressed)
    source = replace(files, batch_size=10)

    reason = failure_of(run(JobFolder(tmp_path / "job"), source, segment_bytes=100, in_place_from_bytes=0))

    assert reason.startswith(f"`{tmp_path}/data/{name}`: line 1001 holds more than one value")


def test_a_file_that_changes_while_it_is_checked_fails_the_job(tmp_path):
    source = write_files(tmp_path / "data", [b"1\n" * 1000])
    told = []

    def tell(event):
        told.append(event)
        if isinstance(event, SegmentCut):
            (tmp_path / "data" / "000").write_bytes(b"2\n" * 1001)

    enqueue(AllFiles(), source, JobFolder(tmp_path / "job"), tell, segment_bytes=100, in_place_from_bytes=0)

    assert "has changed since it was listed" in failure_of(told)
    assert 1 == len(segments_of(told))


def test_a_file_that_stays_is_on_the_disk_before_a_segment_of_it_is_told(tmp_path, monkeypatch):
    source = write_files(tmp_path / "data", [b"1\n" * 1000])
    file = (tmp_path / "data" / "000").stat().st_ino
    sync, synced = os.fsync, []

    def note(opened):
        sync(opened)
        synced.append(os.fstat(opened).st_ino)

    def tell(event):
        assert file in synced or not isinstance(event, SegmentCut)
        told.append(event)

    told = []
    monkeypatch.setattr(os, "fsync", note)
    enqueue(AllFiles(), source, JobFolder(tmp_path / "job"), tell, segment_bytes=100, in_place_from_bytes=0)

    assert {STAYS} == {kind for kind, _ in how(JobFolder(tmp_path / "job"), told)}


def test_a_file_that_was_written_to_just_now_is_taken_when_a_change_would_be_seen(tmp_path, monkeypatch):
    source = write_files(tmp_path / "data", [b"1\n" * 1000])
    written_at = (tmp_path / "data" / "000").stat().st_mtime
    clock, slept = [written_at + 0.001], []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(portions.time, "time", lambda: clock[0])
    monkeypatch.setattr(portions.time, "sleep", sleep)
    run(JobFolder(tmp_path / "job"), source, segment_bytes=10_000, in_place_from_bytes=0)
    run(JobFolder(tmp_path / "again"), source, segment_bytes=10_000, in_place_from_bytes=0)

    assert 1 == len(slept)


def test_a_job_that_an_earlier_version_was_copying_goes_on_in_place_and_both_kinds_are_read(tmp_path):
    source = replace(write_files(tmp_path / "data", [b"".join(b"%d\n" % n for n in range(100))]), batch_size=5)
    folder = JobFolder(tmp_path / "job")
    told = run(folder, source, stop_after=2)
    assert {"file", "offset", "line"} == set(segments_of(told)[-1].cursor)  # as it was before lines could stay

    told += run(folder, source, segment_bytes=1000, in_place_from_bytes=0, resume=segments_of(told)[-1].resume)

    assert [[*range(first, first + 5)] for first in range(0, 100, 5)] == all_batches(folder, told)
    assert [COPIED, COPIED, STAYS] == [kind for kind, _ in how(folder, told)]


@pytest.mark.parametrize("stop_after", [None, 1, 2, 3, 4])
def test_a_lister_that_is_killed_after_any_segment_goes_on_as_if_it_had_not_been(tmp_path, stop_after):
    write_files(tmp_path / "b", [b""] * 7)
    write_files(tmp_path / "a", [b""] * 6)
    paths = (f"{tmp_path}/b/003", f"{tmp_path}/a", f"{tmp_path}/b")
    source = FileSource(kind=LISTER, paths=paths, excludes=("**2",), batch_size=2)
    urls = [f"{tmp_path}/b/003"]
    urls += [f"{tmp_path}/a/00{number}" for number in (0, 1, 3, 4, 5)]
    urls += [f"{tmp_path}/b/00{number}" for number in (0, 1, 4, 5, 6)]
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, stop_after=stop_after)
    if stop_after is not None:
        told += run(folder, source, resume=segments_of(told)[-1].resume)

    assert urls == [file.url for file in read_listing(folder)]
    assert [urls[first : first + 2] for first in range(0, 11, 2)] == all_batches(folder, told)
    assert Enqueued(files=11) == told[-1]
    assert 11 == sum(cut.items for cut in segments_of(told))


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_list_that_is_further_than_the_segments_is_written_again_from_there(tmp_path, is_finished):
    write_files(tmp_path / "data", [b""] * 7)
    source = FileSource(kind=LISTER, paths=(f"{tmp_path}/data/",), batch_size=2)
    folder = JobFolder(tmp_path / "job")
    told = run(folder, source, stop_after=2)
    draft = folder.listing.with_suffix(".part")
    with draft.open("ab") as lines:
        lines.write(b'["/nothing",1,"x"]\n["/no')
    if is_finished:
        draft.rename(folder.listing)

    run(folder, source, resume=segments_of(told)[-1].resume)

    assert [f"{tmp_path}/data/00{number}" for number in range(7)] == [file.url for file in read_listing(folder)]
    assert not draft.exists()


def test_a_lister_of_an_earlier_version_goes_on_without_a_list(tmp_path):
    write_files(tmp_path / "data", [b""] * 4)
    source = FileSource(kind=LISTER, paths=(f"{tmp_path}/data/",), batch_size=1)
    folder = JobFolder(tmp_path / "job")
    cut = segments_of(run(folder, source, stop_after=1))[-1]
    earlier = {name: value for name, value in cut.cursor.items() if name != "listed"}
    folder.listing.with_suffix(".part").unlink()

    told = run(folder, source, resume=replace(cut.resume, cursor=earlier))

    assert Enqueued(files=4) == told[-1]
    assert not folder.listing.exists()


def test_a_list_that_has_lost_files_of_published_segments_fails_the_job(tmp_path):
    write_files(tmp_path / "data", [b""] * 4)
    source = FileSource(kind=LISTER, paths=(f"{tmp_path}/data/",), batch_size=1)
    folder = JobFolder(tmp_path / "job")
    cut = segments_of(run(folder, source, stop_after=2))[-1]
    folder.listing.with_suffix(".part").write_bytes(b"")

    assert "is cut short; submit again" in failure_of(run(folder, source, resume=cut.resume))


def test_each_file_is_told_before_its_content(tmp_path):
    source = write_files(tmp_path / "data", [b"1", b"", b"2"])

    told = run(JobFolder(tmp_path / "job"), source, segment_bytes=1)

    first, second, third = [f"{tmp_path}/data/00{number}" for number in range(3)]
    assert [FileBegun(url=first, number=0), FileBegun(url=second, number=1), FileBegun(url=third, number=2)] == [
        event for event in told if isinstance(event, FileBegun)
    ]
    assert FileBegun(url=first, number=0) == told[0]
    assert [Enqueued(files=3)] == told[-1:]


def test_a_segment_that_is_told_is_complete(tmp_path):
    source = write_files(tmp_path / "data", [b"1\n2\n3\n4"])
    folder = JobFolder(tmp_path / "job")
    seen = []

    def tell(event):
        if isinstance(event, SegmentCut):
            seen.append((States(folder, event.segment).read(), batches_of(folder, event.segment)))

    enqueue(AllFiles(), source, folder, tell, segment_bytes=6)

    assert [(bytes(2), [[1], [2]]), (bytes(2), [[3], [4]])] == seen


def test_compressed_files_are_cut_as_their_content_and_resumed_in_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json.gz").write_bytes(gzip.compress(b"1\n2\n3\n4"))
    source = FileSource(kind=DELIMITED, paths=(f"{tmp_path}/data",), batch_size=1)
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=6, stop_after=1)
    told += run(folder, source, segment_bytes=6, resume=segments_of(told)[-1].resume)

    assert [[1], [2], [3], [4]] == all_batches(folder, told)


def test_files_that_come_after_the_listing_are_no_part_of_the_dataset(tmp_path):
    source = write_files(tmp_path / "data", [b"1\n2\n3\n4"])
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=6, stop_after=1)
    (tmp_path / "data" / "000a").write_bytes(b"5")
    told += run(folder, source, segment_bytes=6, resume=segments_of(told)[-1].resume)

    assert [[1], [2], [3], [4]] == all_batches(folder, told)
    assert [f"{tmp_path}/data/000"] == [file.url for file in read_listing(folder)]


def test_a_file_that_has_changed_since_the_listing_fails_the_job_by_its_name(tmp_path):
    source = write_files(tmp_path / "data", [b"1\n2\n3\n4"])
    folder = JobFolder(tmp_path / "job")

    told = run(folder, source, segment_bytes=6, stop_after=1)
    (tmp_path / "data" / "000").write_bytes(b"5\n6\n7\n8\n")
    told = run(folder, source, segment_bytes=6, resume=segments_of(told)[-1].resume)

    assert f"`{tmp_path}/data/000`" in failure_of(told)
    assert "changed" in failure_of(told)
    assert [] == segments_of(told)


def test_a_listing_that_was_not_finished_is_made_again(tmp_path):
    source = write_files(tmp_path / "data", [b"1"])
    folder = JobFolder(tmp_path / "job")
    folder.root.mkdir()
    folder.listing.with_suffix(".part").write_bytes(b'["/nothing",1,"x"]\n["/no')

    assert [[1]] == all_batches(folder, run(folder, source))


def test_a_bad_line_fails_the_job_by_file_and_line_and_what_to_change(tmp_path):
    source = write_files(tmp_path / "data", [b"1\n2", b"3\n\n4,\n5"])

    reason = failure_of(run(JobFolder(tmp_path / "job"), source))

    assert reason.startswith(f"`{tmp_path}/data/001`: line 3 holds more than one value")
    assert reason.endswith("; each line must hold one JSON value")


def test_a_batch_that_is_too_large_fails_the_job_by_files_and_lines(tmp_path):
    half = b'"' + b"x" * 140_000 + b'"'
    plain = write_files(tmp_path / "data", [b"1\n2\n\n" + half, b"\n" + half + b"\n7"])

    reason = failure_of(run(JobFolder(tmp_path / "job"), replace(plain, batch_size=2)))
    alone = failure_of(run(JobFolder(tmp_path / "alone"), replace(plain, batch_size=4)))

    assert reason.startswith(f"`{tmp_path}/data/000` line 4 to `{tmp_path}/data/001` line 2: a batch of 280")
    assert alone.startswith(f"`{tmp_path}/data/000` line 1 to `{tmp_path}/data/001` line 2: a batch of 280")


@pytest.mark.parametrize("contents", [[b""], [b"\n\n", b" "]])
def test_files_without_items_fail_the_job(tmp_path, contents):
    source = write_files(tmp_path / "data", contents)

    reason = failure_of(run(JobFolder(tmp_path / "job"), source))

    assert f"{len(contents)} file" in reason
    assert "but they hold no items" in reason


@pytest.mark.parametrize("kind", SourceKind)
def test_files_that_are_gone_fail_the_job(tmp_path, kind):
    source = FileSource(kind=kind, paths=(f"{tmp_path}/nothing",), batch_size=1)

    assert f"{kind}.s3_paths: no file matches any more" == failure_of(run(JobFolder(tmp_path / "job"), source))


@pytest.mark.parametrize(("compressed", "from_bytes"), [((), 2**60), ({0}, 0)])
def test_a_full_disk_fails_the_job_with_what_to_do(tmp_path, compressed, from_bytes):
    source = write_files(tmp_path / "data", [b"1\n" * 10_000], compressed=compressed)

    with files_of_at_most(10_000):
        told = run(JobFolder(tmp_path / "job"), source, segment_bytes=100_000, in_place_from_bytes=from_bytes)

    assert failure_of(told).startswith("the operator's disk is full")
    assert [] == segments_of(told)
    assert [] == list((tmp_path / "job" / "segments").iterdir())


def test_a_file_that_cannot_be_read_fails_the_job_by_its_name(tmp_path):
    source = write_files(tmp_path / "data", [b"1"])
    os.rename(tmp_path / "data" / "000", tmp_path / "data" / "000.gz")  # noqa: PTH104 - its name, not its content

    assert f"`{tmp_path}/data/000.gz`" in failure_of(run(JobFolder(tmp_path / "job"), source))
