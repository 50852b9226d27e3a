import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cortex.domain.batch import MAX_BATCH_BYTES, MAX_SEGMENT_BATCHES
from cortex.enqueuing import in_place
from cortex.enqueuing.in_place import batches_in_place
from cortex.enqueuing.plain import plain_line_ends

LINES = st.lists(st.sampled_from([b"1", b'"abc"', b"[2,  3]\r", b"12345678", b'"' + b"x" * 40 + b'"']), max_size=60)
ODD = st.sampled_from([b"", b" 1", b"1 2", b"]", b'"\xff"'])


@contextmanager
def opened(path, content: bytes) -> Iterator[int]:
    path.write_bytes(content)
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def segments(path, content: bytes, begin: int = 0, *, batch_size=1, max_bytes=2**20, piece_bytes=2**20):
    with opened(path, content) as file:
        options = {"batch_size": batch_size, "max_bytes": max_bytes, "piece_bytes": piece_bytes}
        return [bounds.tolist() for bounds in batches_in_place(file, len(content), begin, **options)]


def expected_bounds(content: bytes, begin: int, batch_size: int) -> list[int]:
    """Give where full Batches of plain lines begin and end, one line after the other."""
    bounds, position, lines = [begin], begin, 0
    while position < len(content):
        line = content[position:].partition(b"\n")[0]
        if plain_line_ends(line) is None:
            break
        position, lines = min(position + len(line) + 1, len(content)), lines + 1
        if lines % batch_size == 0:
            bounds.append(position)
    return bounds


@settings(deadline=None, max_examples=150)
@given(LINES, st.lists(ODD, max_size=2), LINES, st.booleans(), st.integers(1, 7), st.integers(1, 90), st.data())
def test_batches_are_found_wherever_pieces_and_blocks_end(
    tmp_path_factory, lines, odd, others, has_last_newline, batch_size, piece_bytes, data
):
    content = b"\n".join([*lines, *odd, *others]) + b"\n" * has_last_newline
    begin = data.draw(st.sampled_from([0, *(index + 1 for index, byte in enumerate(content) if byte == ord("\n"))]))
    path = tmp_path_factory.mktemp("data") / "file"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "BLOCK_BYTES", data.draw(st.integers(1, 60)))
        found = segments(path, content, begin, batch_size=batch_size, piece_bytes=piece_bytes)

    bounds = expected_bounds(content, begin, batch_size)
    assert ([bounds] if len(bounds) > 1 else []) == found


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 50), st.integers(0, 8))
def test_segments_are_as_full_as_they_may_be(lengths, max_bytes, pieces):
    bounds = [0, *itertools.accumulate(lengths)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "_batch_ends", lambda *_: iter(in_place.np.array_split(bounds[1:], pieces + 1)))
        found = [each.tolist() for each in batches_in_place(0, 0, 0, batch_size=1, max_bytes=max_bytes)]

    assert bounds == [0, *itertools.chain.from_iterable(each[1:] for each in found)]
    for each, following in itertools.zip_longest(found, found[1:]):
        assert each[-1] - each[0] <= max_bytes or len(each) == 2
        if following:
            assert each[-1] == following[0]
            assert following[1] - each[0] > max_bytes


def test_a_segment_holds_so_many_batches_and_no_more(tmp_path):
    count = MAX_SEGMENT_BATCHES + 3

    found = segments(tmp_path / "file", b"1\n" * count, max_bytes=2**30)

    assert [MAX_SEGMENT_BATCHES, 3] == [len(bounds) - 1 for bounds in found]


@pytest.mark.parametrize("piece_bytes", [100_000, 2**20])
@pytest.mark.parametrize(("expected", "length"), [(3, MAX_BATCH_BYTES - 3), (1, MAX_BATCH_BYTES - 2), (1, 2**20)])
def test_a_batch_that_may_be_too_large_ends_what_stays(tmp_path, expected, length, piece_bytes):
    long = b'"' + b"x" * (length - 3) + b'"\n'
    content = b"1\n" + long + b"2\n"

    found = segments(tmp_path / "file", content, piece_bytes=piece_bytes)

    assert [expected] == [len(bounds) - 1 for bounds in found]


def test_what_cannot_be_read_is_left_to_those_who_copy(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)

    assert [] == list(batches_in_place(folder, 1000, 0, batch_size=1, max_bytes=2**20))

    os.close(folder)


def test_a_file_that_was_cut_short_meanwhile_gives_what_is_there(tmp_path):
    with opened(tmp_path / "file", b"1\n2\n3\n") as file:
        found = [bounds.tolist() for bounds in batches_in_place(file, 10**6, 0, batch_size=1, max_bytes=2**20)]

    assert [[0, 2, 4, 6]] == found
