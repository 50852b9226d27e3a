import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import MAX_BATCH_BYTES, MAX_SEGMENT_BATCHES, MAX_SEGMENT_BYTES, BatchState
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.pages import create_page, read_page, work_done, write_lease, write_limit
from cortex.storage.segments import (
    SegmentDamaged,
    States,
    ended_prefix,
    remove_payload,
    sync_file,
    write_segments,
)
from cortex.worker.segment import LeasedSegment
from job_files import make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
STATES = st.lists(st.sampled_from([OPEN, OPEN, OPEN, ROWS, FAILED]) | st.just(OPEN), min_size=1, max_size=300)


def read(folder: JobFolder, segment: SegmentRange, first: int | None = None, end: int | None = None):
    leased = LeasedSegment(folder, segment.number, segment.first)
    batches = list(leased.batches(segment.first if first is None else first, segment.end if end is None else end))
    leased.close()
    return batches


@pytest.mark.parametrize("batches", [[b"[1]"], [b"[1]", b"[]", b'["\xc3\xa4"]', b"[" + b" " * 10_000 + b"]"]])
def test_every_batch_is_read_back_as_it_was_written(tmp_path, batches):
    folder = JobFolder(tmp_path / "job")

    (segment,) = write_segments(folder, batches)

    assert segment == SegmentRange(number=0, first=0, count=len(batches))
    assert list(enumerate(batches)) == read(folder, segment)
    assert bytes(len(batches)) == States(folder, segment).read()


def test_writing_again_what_was_written_gives_the_same_files(tmp_path):
    folder = JobFolder(tmp_path)
    batches = [b"[1]", b"[2,3]"]

    first = write_segments(folder, batches)
    before = {path: path.read_bytes() for path in folder.segments.iterdir()}
    second = write_segments(folder, batches)

    assert first == second
    assert before == {path: path.read_bytes() for path in folder.segments.iterdir()}


def test_no_batches_give_no_segments(tmp_path):
    assert write_segments(JobFolder(tmp_path), []) == []


def test_a_segment_holds_so_many_batches_and_the_next_one_goes_on(tmp_path):
    folder = JobFolder(tmp_path)

    segments = write_segments(folder, [b"1"] * (MAX_SEGMENT_BATCHES + 2))

    assert [(0, MAX_SEGMENT_BATCHES), (MAX_SEGMENT_BATCHES, 2)] == [
        (segment.first, segment.count) for segment in segments
    ]
    assert [(MAX_SEGMENT_BATCHES, b"1"), (MAX_SEGMENT_BATCHES + 1, b"1")] == read(folder, segments[1])


def test_the_bytes_of_a_segment_are_fewer_than_an_offset_can_name():
    assert 2**32 > MAX_SEGMENT_BYTES + MAX_BATCH_BYTES


@given(STATES, st.data())
def test_open_ranges_are_the_longest_runs_of_open_batches(tmp_path_factory, states, data):
    folder, (_, segment) = make_job(tmp_path_factory.mktemp("job"), 7, len(states))
    set_states(folder, segment, states)
    first = data.draw(st.integers(segment.first, segment.end))
    end = data.draw(st.integers(first, segment.end))

    ranges = States(folder, segment).open_ranges(first, end)

    covered = [batch for begin, stop in ranges for batch in range(begin, stop)]
    assert [batch for batch in range(first, end) if states[batch - 7] is OPEN] == covered
    assert all(begin < stop for begin, stop in ranges)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ranges))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 127, 128, 129, 100_000])
def test_a_fresh_segment_is_one_open_range(tmp_path, size):
    folder, (segment,) = make_job(tmp_path, size)

    assert States(folder, segment).open_ranges(0, size) == [(0, size)]


def test_a_stored_state_changes_one_batch_alone(tmp_path):
    folder, (_, segment) = make_job(tmp_path, 2, 3)
    states = States(folder, segment)

    states.store(3, GIVEN_UP)

    assert states.read() == bytes([OPEN, GIVEN_UP, OPEN])
    assert states.read(3, 5) == bytes([GIVEN_UP, OPEN])
    assert folder.states(0).read_bytes() == bytes(2)


def test_states_that_were_cut_short_are_damage_and_no_ending(tmp_path):
    folder, (segment,) = make_job(tmp_path, 4)
    folder.states(0).write_bytes(bytes(3))

    with pytest.raises(SegmentDamaged, match="fewer states"):
        States(folder, segment).read()


def test_states_that_are_gone_are_damage(tmp_path):
    folder, (segment,) = make_job(tmp_path, 4)
    folder.states(0).unlink()

    with pytest.raises(SegmentDamaged):
        States(folder, segment).read()


@pytest.mark.parametrize(
    ("expected", "states", "first"),
    [
        (0, [OPEN, ROWS, ROWS, OPEN], 0),
        (3, [OPEN, ROWS, ROWS, OPEN], 1),
        (3, [OPEN, ROWS, ROWS, OPEN], 3),
        (4, [ROWS, FAILED, GIVEN_UP, NOTHING], 0),
        (4, [OPEN, OPEN, OPEN, OPEN], 4),
        (2, [ROWS, FAILED, OPEN, OPEN], 0),
    ],
)
def test_the_ended_prefix_ends_at_the_first_open_batch(tmp_path, expected, states, first):
    folder, segments = make_job(tmp_path, 2, 2)
    set_states(folder, segments[0], states[:2])
    set_states(folder, segments[1], states[2:])

    assert expected == ended_prefix(folder, segments, first)


def test_a_worker_reads_the_batches_of_its_lease(tmp_path):
    folder, segments = make_job(tmp_path, 5, 20_000)

    batches = read(folder, segments[1], 7, 20_003)

    assert [(batch, f"[{batch}]".encode()) for batch in range(7, 20_003)] == batches


def test_a_worker_reads_batches_larger_than_its_window(tmp_path):
    folder = JobFolder(tmp_path)
    batches = [b"[1]", b"[" + b" " * 5_000_000 + b"]", b"[3]", b"[" + b" " * 3_000_000 + b"]", b"[5]"]

    (segment,) = write_segments(folder, batches)

    assert list(enumerate(batches)) == read(folder, segment)
    assert [(3, batches[3])] == read(folder, segment, 3, 4)


def test_what_a_worker_stores_is_what_the_operator_reads(tmp_path):
    folder, (_, segment) = make_job(tmp_path, 2, 3)
    leased = LeasedSegment(folder, 1, 2)

    leased.states[4 - 2] = ROWS

    assert States(folder, segment).read() == bytes([OPEN, OPEN, ROWS])
    leased.close()


def test_a_page_says_which_lease_its_worker_may_hold(tmp_path):
    folder, _ = make_job(tmp_path)
    create_page(folder, "w")

    write_lease(folder, "w", token=2**63, first=3, limit=9)
    write_limit(folder, "w", 5)

    page = read_page(folder, "w")
    assert (page.token, page.first, page.limit, page.current) == (2**63, 3, 5, None)


@pytest.mark.parametrize("content", [None, b"", bytes(50)])
def test_a_page_that_is_missing_or_cut_short_says_nothing(tmp_path, content):
    folder, _ = make_job(tmp_path)
    if content is not None:
        folder.page("w").write_bytes(content)

    page = read_page(folder, "w")

    assert (page.token, page.first, page.limit, page.current, page.finished) == (0, 0, 0, None, 0)
    assert work_done(folder) == (0, 0.0)


def test_a_file_that_is_not_there_need_not_be_synced(tmp_path):
    sync_file(tmp_path / "nothing")


def test_states_that_there_are_not_are_damage(tmp_path):
    folder, (segment,) = make_job(tmp_path / "job", 3)
    folder.states(0).write_bytes(bytes([OPEN, max(BatchState) + 1, OPEN]))

    with pytest.raises(SegmentDamaged, match="states that there are not"):
        States(folder, segment).read()


@given(at=st.integers(0, 10**6), byte=st.integers(1, 255), which=st.sampled_from(["payload", "offsets"]))
def test_a_batch_is_what_was_written_or_empty_whatever_byte_is_damaged(tmp_path_factory, at, byte, which):
    folder = JobFolder(tmp_path_factory.mktemp("job") / "job")
    batches = [f"[{number}]".encode() for number in range(8, 14)]
    write_segments(folder, batches)
    path = getattr(folder, which)(0)
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= byte
    path.write_bytes(data)

    read = LeasedSegment(folder, 0, 0)
    found = dict(read.batches(0, 6))
    read.close()

    assert list(range(6)) == list(found)
    assert all(found[number] in (b"", batch) for number, batch in enumerate(batches))
    assert which == "offsets" or b"" in found.values()


@given(size=st.integers(0, 60), which=st.sampled_from(["payload", "offsets"]))
def test_a_batch_is_what_was_written_or_empty_wherever_a_file_is_cut(tmp_path_factory, size, which):
    folder = JobFolder(tmp_path_factory.mktemp("job") / "job")
    batches = [f"[{number}]".encode() for number in range(8, 14)]
    write_segments(folder, batches)
    path = getattr(folder, which)(0)
    path.write_bytes(path.read_bytes()[:size])

    read = LeasedSegment(folder, 0, 0)
    found = dict(read.batches(0, 6))
    read.close()

    assert list(range(6)) == list(found)
    assert all(found[number] in (b"", batch) for number, batch in enumerate(batches))


def test_a_segment_of_an_earlier_version_has_no_checksums_and_is_read_all_the_same(tmp_path):
    folder, _ = make_job(tmp_path / "job", 3)

    read = LeasedSegment(folder, 0, 0)

    assert [(0, b"[0]"), (1, b"[1]"), (2, b"[2]")] == list(read.batches(0, 3))
    read.close()


def test_nothing_of_the_items_that_no_worker_will_read_is_left(tmp_path):
    folder, _ = make_job(tmp_path / "job", 3)
    for path in (folder.lines(1), folder.draft(0)):  # the draft is of a process that was killed
        path.write_bytes(b"1\n")

    remove_payload(folder)

    assert {"000000.offsets", "000000.states"} == {path.name for path in folder.segments.iterdir()}
