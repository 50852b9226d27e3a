import itertools

from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import MAX_SEGMENT_BATCHES
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.segments import SegmentWriter, States
from cortex.worker.segment import LeasedSegment


def read(folder: JobFolder, segment: SegmentRange) -> list[bytes]:
    leased = LeasedSegment(folder, segment.number, segment.first)
    batches = [batch for _, batch in leased.batches(segment.first, segment.end)]
    leased.close()
    return batches


def write(writer: SegmentWriter, groups: list[list[bytes]]) -> list[SegmentRange]:
    segments = []
    for group in groups:
        rest = group
        while rest := rest[writer.extend(rest) :]:
            segments.append(writer.complete())
    return [*segments, *filter(None, [writer.complete()])]


@given(st.lists(st.lists(st.binary(max_size=6), max_size=8), max_size=8), st.integers(1, 20))
def test_segments_are_as_full_as_they_may_be_however_their_batches_come(tmp_path_factory, groups, max_bytes):
    folder = JobFolder(tmp_path_factory.mktemp("job"))
    batches = [batch for group in groups for batch in group]

    with SegmentWriter(folder, max_bytes=max_bytes) as writer:
        segments = write(writer, groups)

    held = [read(folder, segment) for segment in segments]
    assert batches == [batch for segment in held for batch in segment]
    assert all(len(b"".join(segment)) <= max_bytes or len(segment) == 1 for segment in held)
    assert all(len(b"".join([*one, next_[0]])) > max_bytes for one, next_ in itertools.pairwise(held))
    assert [bytes(len(each)) for each in held] == [States(folder, segment).read() for segment in segments]
    assert list(range(len(segments))) == [segment.number for segment in segments]


def test_a_segment_holds_so_many_batches_and_no_more(tmp_path):
    with SegmentWriter(JobFolder(tmp_path)) as writer:
        taken = [writer.extend([b"1"] * (MAX_SEGMENT_BATCHES - 1)), writer.extend([b"2"] * 3), writer.extend([b"3"])]

        segment = writer.complete()

    assert [MAX_SEGMENT_BATCHES - 1, 1, 0] == taken
    assert MAX_SEGMENT_BATCHES == segment.count


def test_a_writer_goes_on_where_it_is_told_to(tmp_path):
    folder = JobFolder(tmp_path)

    with SegmentWriter(folder, number=7, first=300) as writer:
        writer.extend([b"[1]", b"[2]"])
        assert writer.next_batch == 302
        segment = writer.complete()

    assert SegmentRange(number=7, first=300, count=2) == segment
    assert [b"[1]", b"[2]"] == read(folder, segment)


def test_nothing_makes_no_segment(tmp_path):
    folder = JobFolder(tmp_path)

    with SegmentWriter(folder) as writer:
        assert writer.extend([]) == 0
        assert writer.complete() is None

    assert [] == list(folder.segments.iterdir())


def test_what_a_killed_writer_has_left_is_overwritten(tmp_path):
    folder = JobFolder(tmp_path)
    folder.segments.mkdir(parents=True)
    for path in (folder.payload(0), folder.offsets(0), folder.states(0)):
        path.write_bytes(b"x" * 1000)

    with SegmentWriter(folder) as writer:
        writer.extend([b"[1]"])
        segment = writer.complete()

    assert [b"[1]"] == read(folder, segment)
    assert (b"[1]", bytes(1)) == (folder.payload(0).read_bytes(), folder.states(0).read_bytes())


def test_of_a_segment_that_is_not_complete_nothing_is_left(tmp_path):
    folder = JobFolder(tmp_path)

    with SegmentWriter(folder) as writer:
        writer.extend([b"[1]"])

    assert [] == list(folder.segments.iterdir())
