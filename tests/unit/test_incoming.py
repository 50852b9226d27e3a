import gzip
import io
import itertools
import os
import zlib

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.domain.batch import MAX_BATCH_BYTES
from cortex.enqueuing import in_place, incoming
from cortex.enqueuing.incoming import Incoming
from cortex.enqueuing.plain import plain_line_ends

LINES = st.lists(st.sampled_from([b"1", b'"abc"', b"[2,  3]\r", b"12345678", b'"' + b"x" * 40 + b'"']), max_size=60)
ODD = st.sampled_from([b"", b" 1", b"1 2", b"]", b'"\xff"'])


@pytest.fixture(autouse=True)
def one_cpu(monkeypatch):
    """Check here, and not in forks."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


def take(folder, content: bytes, *, batch_size=1, max_bytes=2**20, piece_bytes=2**20) -> tuple[list[bytes], bytes]:
    """Take a file in; give the Segments as their bytes, and the rest. All that is said of them must be true."""
    lines = Incoming(
        lambda: io.BytesIO(content),
        lambda number: folder / str(number),
        batch_size=batch_size,
        max_bytes=max_bytes,
        piece_bytes=piece_bytes,
    )
    segments, position = [], 0
    for number, taken in enumerate(lines.segments()):
        kept = folder / f"kept-{number}"
        taken.path.rename(kept)
        segments.append(kept.read_bytes())
        bounds = taken.bounds.tolist()
        assert [expected_bounds(content[position : position + bounds[-1]], batch_size), len(segments[-1])] == [
            bounds,
            bounds[-1],
        ]
        assert [zlib.crc32(segments[-1][a:b]) for a, b in itertools.pairwise(bounds)] == taken.checksums.tolist()
        position += bounds[-1]
    rest = b"".join(lines.rest())
    lines.close()
    assert {f"kept-{number}" for number in range(len(segments))} == {path.name for path in folder.iterdir()}
    assert content == b"".join(segments) + rest
    return segments, rest


def expected_bounds(content: bytes, batch_size: int) -> list[int]:
    """Give where full Batches of plain lines begin and end, one line after the other."""
    bounds, position, lines = [0], 0, 0
    while (end := content.find(b"\n", position)) >= 0 and plain_line_ends(content[position:end]) is not None:
        position, lines = end + 1, lines + 1
        if lines % batch_size == 0:
            bounds.append(position)
    return bounds


@settings(deadline=None, max_examples=150)
@given(LINES, st.lists(ODD, max_size=2), LINES, st.booleans(), st.integers(1, 7), st.integers(1, 90), st.data())
def test_batches_are_found_wherever_pieces_and_blocks_end_and_segments_are_as_full_as_they_may_be(
    tmp_path_factory, lines, odd, others, has_last_newline, batch_size, piece_bytes, data
):
    content = b"\n".join([*lines, *odd, *others]) + b"\n" * has_last_newline
    max_bytes = data.draw(st.sampled_from([1, 30, 100, 2**20]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incoming, "_READ_BYTES", data.draw(st.integers(1, 200)))
        patch.setattr(in_place, "BLOCK_BYTES", data.draw(st.integers(1, 60)))
        segments, _ = take(
            tmp_path_factory.mktemp("data"),
            content,
            batch_size=batch_size,
            max_bytes=max_bytes,
            piece_bytes=piece_bytes,
        )

    bounds = expected_bounds(content, batch_size)
    assert bounds[-1] == sum(map(len, segments))
    ends = list(itertools.accumulate(map(len, segments), initial=0))
    for begin, end in itertools.pairwise(ends):
        following = bounds[bounds.index(begin) + 1 :]
        assert end == max((bound for bound in following if bound - begin <= max_bytes), default=following[0])


def test_a_segment_holds_so_many_batches_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(incoming, "MAX_SEGMENT_BATCHES", 1000)

    segments, rest = take(tmp_path, b"1\n" * 1003)

    assert ([2000, 6], b"") == ([len(segment) for segment in segments], rest)


@pytest.mark.parametrize("read_bytes", [100_000, 2**20])
@pytest.mark.parametrize(("expected", "length"), [(3, MAX_BATCH_BYTES - 3), (1, MAX_BATCH_BYTES - 2), (1, 2**21)])
def test_a_batch_that_may_be_too_large_ends_what_is_taken(tmp_path, monkeypatch, expected, length, read_bytes):
    monkeypatch.setattr(incoming, "_READ_BYTES", read_bytes)

    segments, _ = take(tmp_path, b"1\n" + b'"' + b"x" * (length - 3) + b'"\n' + b"2\n")

    assert [expected] == [segment.count(b"\n") for segment in segments]


def test_what_cannot_be_taken_is_not_read_on(tmp_path):
    content = io.BytesIO(b"1\n" * 10_000_000)
    lines = Incoming(lambda: content, lambda number: tmp_path / str(number), batch_size=200_000, max_bytes=2**20)

    assert [] == list(lines.segments())
    assert content.tell() < 2**22
    lines.close()


@pytest.mark.parametrize("kills", [False, True])
def test_forks_check_while_it_is_read_and_what_they_do_not_is_checked_here(tmp_path, monkeypatch, kills):
    before = psutil.Process().children()
    content = b"".join(b"%d\n" % number for number in range(1_000_000))
    forks, seen = [], []

    def open_content():
        forks.extend(child for child in psutil.Process().children() if child not in before)
        seen.append(len(forks))
        return gzip.open(io.BytesIO(gzip.compress(content, 1)))

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    lines = Incoming(
        open_content,
        lambda number: tmp_path / str(number),
        batch_size=1000,
        max_bytes=2**20,
        piece_bytes=2**18,
    )
    found = b""
    for taken in lines.segments():
        found += taken.path.read_bytes()
        while kills and forks:
            forks.pop().kill()

    assert content == found + b"".join(lines.rest())
    lines.close()
    assert before == psutil.Process().children()
    assert [2] == seen


def test_to_close_it_early_leaves_nothing(tmp_path):
    content = io.BytesIO(b"1\n" * 1000)
    lines = Incoming(lambda: content, lambda number: tmp_path / str(number), batch_size=1, max_bytes=100)
    segments = lines.segments()
    next(segments)

    segments.close()
    lines.close()

    assert [] == list(tmp_path.iterdir())
    assert content.closed
