"""Rows that are read together, compared with the rules by which each Batch is read: nothing may tell them apart."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import BatchState, EntryKind
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage import entries, results
from cortex.storage.entries import KnownBlocks
from cortex.storage.results import ResultDamaged, read_left, read_rows
from job_files import append_entry, make_job, set_states

BATCHES = 12
WITH_ROWS = (BatchState.SUCCEEDED_WITH_ROWS, BatchState.FAILED_IN_PART)
ROWS = st.sampled_from([b"", b"1\n", b"[22]\n", b"1\n2\n3\n", b'"' + b"x" * 30 + b'"\n'])
KINDS = st.sampled_from([*[EntryKind.ROWS] * 11, EntryKind.FAILURE])


class Left(NamedTuple):
    """What an attempt has left."""

    worker: str
    batch: int
    token: int
    kind: EntryKind
    data: bytes
    is_torn: bool


@pytest.fixture(autouse=True, scope="module")
def few_at_once() -> Iterator[None]:
    """Let small jobs meet every bound."""
    with (
        patch.object(results, "_BATCHES_AT_ONCE", 5),
        patch.object(results, "_PIECE_BYTES", 12),
        patch.object(entries, "_ENTRIES_AT_ONCE", 3),
        patch.object(entries, "_MAX_OPEN_PARTS", 2),
    ):
        yield


@st.composite
def attempts(draw: st.DrawFn) -> list[Left]:
    """Draw what Workers leave that take ranges of Batches in turn, with attempts before and after."""
    left: list[Left] = []
    batch = token = 0
    while batch < BATCHES:
        token += 1
        worker = draw(st.sampled_from("abc"))
        for _ in range(draw(st.integers(1, 6))):
            kind = draw(KINDS)
            left.append(Left(worker, batch, token, kind, draw(ROWS), is_torn=False))
            batch += 1
    odd = st.builds(
        Left,
        worker=st.sampled_from("abcd"),
        batch=st.integers(0, BATCHES + 1),
        token=st.integers(1, 6),
        kind=st.sampled_from(EntryKind),
        data=ROWS,
        is_torn=st.booleans(),
    )
    for each in draw(st.lists(odd, max_size=4)):
        left.insert(draw(st.integers(0, len(left))), each)
    for place in draw(st.lists(st.integers(0, len(left) - 1), max_size=2)):
        del left[min(place, len(left) - 1)]
    return left


@st.composite
def states(draw: st.DrawFn) -> list[BatchState]:
    """Draw states of Batches, most of which have succeeded."""
    odd = draw(st.dictionaries(st.integers(0, BATCHES - 1), st.sampled_from(BatchState), max_size=4))
    return [odd.get(batch, BatchState.SUCCEEDED_WITH_ROWS) for batch in range(BATCHES)]


def write(folder: JobFolder, left: Sequence[Left]) -> None:
    for each in left:
        checksum = 12345 if each.is_torn else None
        append_entry(folder, each.worker, each.batch, each.data, token=each.token, kind=each.kind, checksum=checksum)


def rows_by_the_rules(state: BatchState, left: Sequence[Left]) -> bytes | None:
    """Give the rows of a Batch in this state that has left this; None where they are damaged."""
    kinds = {EntryKind.ROWS, EntryKind.FAILURE} if state is BatchState.FAILED_IN_PART else {EntryKind.ROWS}
    for token in sorted({each.token for each in left}, reverse=True):
        # Of one token and kind, the last one in the order of the parts counts.
        of_token = sorted((each for each in left if each.token == token), key=lambda each: each.worker)
        if EntryKind.FAILURE in {each.kind for each in of_token} - kinds:
            continue
        intact = {each.kind: each.data for each in of_token if each.kind in kinds and not each.is_torn}
        if intact.keys() == kinds:
            return intact[EntryKind.ROWS]
    return None


def expected_rows(given_states: Sequence[BatchState], left: Sequence[Left], first: int, end: int) -> list[bytes | None]:
    return [
        rows_by_the_rules(state, [each for each in left if each.batch == batch])
        for batch, state in enumerate(given_states)
        if state in WITH_ROWS and first <= batch < end
    ]


def read_until_damage(folder: JobFolder, segments: Sequence[SegmentRange], first: int, end: int) -> tuple[bytes, bool]:
    """Give all rows up to the first that are damaged, and whether there were any such."""
    rows = b""
    try:
        for piece in read_rows(folder, segments, first, end):
            rows += piece
    except ResultDamaged:
        return rows, True
    return rows, False


@given(states(), attempts(), st.integers(0, BATCHES), st.integers(0, BATCHES))
def test_rows_are_those_that_the_rules_give_whatever_lies_in_the_parts(
    tmp_path_factory: pytest.TempPathFactory, given_states: list[BatchState], left: list[Left], first: int, end: int
) -> None:
    folder, segments = make_job(tmp_path_factory.mktemp("job"), 7, BATCHES - 7)
    for segment in segments:
        set_states(folder, segment, given_states[segment.first : segment.end])
    write(folder, left)
    expected = expected_rows(given_states, left, first, end)
    intact = expected[: expected.index(None)] if None in expected else expected

    rows, is_damaged = read_until_damage(folder, segments, first, end)

    assert b"".join(each or b"" for each in intact) == rows
    assert (None in expected) == is_damaged
    assert expected_rows(given_states, left, 0, BATCHES) == [
        None if each is None else each[1]
        for segment in segments
        for _, _, each, _ in read_left(folder, segment, with_rows_only=True)
    ]


@given(attempts(), st.sampled_from("abc"), st.integers(1, 40))
def test_rows_whose_file_is_cut_short_are_never_given_in_part(
    tmp_path_factory: pytest.TempPathFactory, left: list[Left], worker: str, cut: int
) -> None:
    folder, segments = make_job(tmp_path_factory.mktemp("job"), BATCHES)
    set_states(folder, segments[0], [BatchState.SUCCEEDED_WITH_ROWS] * BATCHES)
    write(folder, left)
    _cut(folder.rows(worker), cut)
    each = [rows and rows[1] for _, _, rows, _ in read_left(folder, segments[0], with_rows_only=True)]
    intact = each[: each.index(None)] if None in each else each

    rows, is_damaged = read_until_damage(folder, segments, 0, BATCHES)

    assert b"".join(data or b"" for data in intact) == rows
    assert (None in each) == is_damaged


def _cut(path: Path, length: int) -> None:
    if path.exists():
        data = path.read_bytes()
        path.write_bytes(data[: max(0, len(data) - length)])


@given(attempts(), st.lists(st.integers(0, BATCHES), max_size=6).map(sorted))
def test_who_asks_again_while_the_indexes_grow_is_given_what_came_since(
    tmp_path_factory: pytest.TempPathFactory, left: list[Left], looks: list[int]
) -> None:
    folder, segments = make_job(tmp_path_factory.mktemp("job"), 7, BATCHES - 7)
    for segment in segments:
        set_states(folder, segment, [BatchState.SUCCEEDED_WITH_ROWS] * segment.count)
    plain = [each for each in left if each.kind is EntryKind.ROWS and not each.is_torn]
    plain = list({each.batch: each for each in plain}.values())
    blocks = KnownBlocks()
    written, position, given_rows = 0, 0, b""

    for look in [*looks, BATCHES]:
        while written < len(plain) and plain[written].batch < look:
            write(folder, plain[written : written + 1])
            written += 1
        ended = {each.batch for each in plain[:written]}
        end = next(batch for batch in range(BATCHES + 1) if batch not in ended)
        given_rows += b"".join(read_rows(folder, segments, position, end, blocks=blocks))
        position = max(position, end)

    by_batch = {each.batch: each.data for each in plain[:written]}
    assert b"".join(by_batch[batch] for batch in range(position)) == given_rows


def test_rows_that_lie_side_by_side_come_together_but_never_more_than_a_piece(tmp_path: Path) -> None:
    folder, segments = make_job(tmp_path, 7)
    set_states(folder, segments[0], [BatchState.SUCCEEDED_WITH_ROWS] * 7)
    for batch, data in enumerate([b"123\n"] * 4 + [b"x" * 29 + b"\n"] + [b"1\n"] * 2):
        append_entry(folder, "worker-0", batch, data)

    assert [b"123\n" * 3, b"123\n", b"x" * 29 + b"\n", b"1\n" * 2] == list(read_rows(folder, segments))
