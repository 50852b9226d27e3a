import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import ENTRY, BatchState, EntryKind
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.results import (
    FailedBatch,
    ResultDamaged,
    batches_without_rows,
    read_endings,
    read_failed,
    read_failures,
    read_rows,
)
from job_files import append_entry, make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
STATES = st.lists(st.sampled_from(BatchState), max_size=40)


def lines_of(folder: JobFolder, segments: list[SegmentRange], first: int = 0, end: int | None = None) -> list[bytes]:
    """Give each row."""
    return b"".join(read_rows(folder, segments, first, end)).splitlines(keepends=True)


def failure(batch: int) -> bytes:
    return json.dumps({"type": "ValueError", "message": f"batch {batch}", "traceback": "…"}).encode() + b"\n"


def test_rows_come_in_input_order_however_the_parts_lie(tmp_path):
    folder, segments = make_job(tmp_path, 50, 30, 20)
    for segment in segments:
        set_states(folder, segment, [ROWS] * segment.count)
    batches = list(range(100))
    batches.sort(key=lambda batch: batch * 37 % 101)
    for place, batch in enumerate(batches):
        append_entry(folder, f"worker-{place % 3}", batch, f"{batch}\n".encode())

    assert [f"{batch}\n".encode() for batch in range(100)] == lines_of(folder, segments)


@pytest.mark.parametrize(
    ("expected", "first", "end"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 7], 0, None),
        ([3, 4, 5, 6, 7], 3, None),
        ([0, 1, 2], 0, 3),
        ([2, 3, 4, 5], 2, 6),
        ([4], 4, 5),
        ([], 4, 4),
        ([], 5, 4),
        ([], 8, None),
        ([6, 7], 6, 100),
    ],
)
def test_a_range_of_batches_is_read_across_segments(tmp_path, expected, first, end):
    folder, segments = make_job(tmp_path, 3, 1, 4)
    for segment in segments:
        set_states(folder, segment, [ROWS] * segment.count)
    for batch in range(8):
        append_entry(folder, f"worker-{batch % 2}", batch, f"{batch}\n".encode())

    assert [f"{batch}\n".encode() for batch in expected] == lines_of(folder, segments, first, end)


def test_a_few_of_many_batches_are_read_in_little_memory(tmp_path):
    folder, segments = make_job(tmp_path, 500_000)
    set_states(folder, segments[0], [ROWS] * 500_000)
    for batch in (400_000, 400_001):
        append_entry(folder, "worker-0", batch, f"{batch}\n".encode())
    entry = folder.index("worker-0").read_bytes()[-ENTRY.size :]
    with folder.index("worker-0").open("ab") as index:
        index.writelines(entry.replace((400_001).to_bytes(8, "little"), bytes(8), 1) for _ in range(500_000))

    tracemalloc.start()
    rows = lines_of(folder, segments, 400_000, 400_002)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows == [b"400000\n", b"400001\n"]
    assert peak < folder.index("worker-0").stat().st_size / 2


@given(STATES)
def test_only_what_the_state_bytes_say_is_visible(tmp_path_factory, states):
    folder, segments = make_job(tmp_path_factory.mktemp("job"), len(states))
    set_states(folder, segments[0], states)
    for batch, state in enumerate(states):  # entries are written before the byte, so there may be any
        append_entry(folder, "worker-0", batch, f"rows {batch}\n".encode(), token=1)
        token = 1 if state is IN_PART else 2
        append_entry(folder, "worker-0", batch, failure(batch), token=token, kind=EntryKind.FAILURE)

    rows, failures = lines_of(folder, segments), list(read_failures(folder, segments))

    with_rows = [batch for batch, state in enumerate(states) if state in (ROWS, IN_PART)]
    raised = [batch for batch, state in enumerate(states) if state in (FAILED, IN_PART)]
    assert [f"rows {batch}\n".encode() for batch in with_rows] == rows
    assert [(batch, json.loads(failure(batch))) for batch in raised] == failures


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1], [2, 3, 1]])
@pytest.mark.parametrize("epoch", [0, 1 << 40, 2**63])
def test_of_several_entries_the_one_with_the_highest_token_counts(tmp_path, order, epoch):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    for token in order:
        append_entry(folder, f"worker-{token}", 0, f"token {token}\n".encode(), token=epoch + token)

    assert lines_of(folder, segments) == [b"token 3\n"]


def test_a_failure_before_does_not_hide_the_rows_of_a_later_attempt(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    append_entry(folder, "worker-0", 0, b"rows\n", token=1)
    append_entry(folder, "worker-1", 0, failure(0), token=2, kind=EntryKind.FAILURE)

    assert lines_of(folder, segments) == [b"rows\n"]
    assert list(read_failures(folder, segments)) == []


def cut_rows(root: Path) -> None:
    path = root / "workers" / "worker-1.rows"
    path.write_bytes(path.read_bytes()[:-3])


def lose_rows(root: Path) -> None:
    (root / "workers" / "worker-1.rows").write_bytes(b"")


def change_rows(root: Path) -> None:
    path = root / "workers" / "worker-1.rows"
    path.write_bytes(bytes(len(path.read_bytes())))


def cut_index(root: Path) -> None:
    path = root / "workers" / "worker-1.index"
    path.write_bytes(path.read_bytes()[: -ENTRY.size // 2])


def lose_index(root: Path) -> None:
    (root / "workers" / "worker-1.index").write_bytes(b"")


def zero_index(root: Path) -> None:
    (root / "workers" / "worker-1.index").write_bytes(bytes(ENTRY.size))


def extend_index(root: Path) -> None:
    path = root / "workers" / "worker-1.index"
    path.write_bytes(path.read_bytes()[: -ENTRY.size] + ENTRY.pack(0, 9, 0, 2**32 - 1, 1, EntryKind.ROWS, 0))


DAMAGES = [cut_rows, lose_rows, change_rows, cut_index, lose_index, zero_index, extend_index]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_entry_counts_as_absent_and_an_earlier_one_stands_for_it(tmp_path, damage):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    append_entry(folder, "worker-0", 0, b"from worker 0\n", token=1)
    append_entry(folder, "worker-1", 0, b"from worker 1\n", token=2)

    damage(tmp_path)

    assert lines_of(folder, segments) == [b"from worker 0\n"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_must_be_there_and_are_not_are_never_left_out_in_silence(tmp_path, damage):
    folder, segments = make_job(tmp_path, 3)
    set_states(folder, segments[0], [ROWS, OPEN, ROWS])
    append_entry(folder, "worker-0", 0, b"from worker 0\n")
    append_entry(folder, "worker-1", 2, b"from worker 1\n")

    damage(tmp_path)

    with pytest.raises(ResultDamaged, match="batch 2"):
        lines_of(folder, segments)
    assert batches_without_rows(folder, segments[0]) == [2]


def test_rows_whose_part_is_gone_are_damaged(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    append_entry(folder, "worker-0", 0, b"1\n")
    folder.rows("worker-0").unlink()

    with pytest.raises(ResultDamaged):
        lines_of(folder, segments)
    assert batches_without_rows(folder, segments[0]) == [0]


def test_after_a_power_cut_only_the_batches_whose_rows_are_lost_are_named(tmp_path):
    folder, (segment, other) = make_job(tmp_path, 6, 2)
    set_states(folder, segment, [ROWS, ROWS, NOTHING, FAILED, OPEN, ROWS])
    set_states(folder, other, [ROWS, NOTHING])
    append_entry(folder, "worker-0", 0, b"0\n")
    append_entry(folder, "worker-0", 1, b"1\n", checksum=12345)
    append_entry(folder, "worker-1", 6, b"6\n")

    assert batches_without_rows(folder, segment) == [1, 5]
    assert batches_without_rows(folder, other) == []


def test_a_failure_that_could_not_be_stored_is_left_out(tmp_path):
    folder, segments = make_job(tmp_path, 3)
    set_states(folder, segments[0], [FAILED, FAILED, GIVEN_UP])
    append_entry(folder, "worker-0", 1, failure(1), kind=EntryKind.FAILURE)

    assert [1] == [batch for batch, _ in read_failures(folder, segments)]


def test_a_job_without_workers_or_segments_has_no_results(tmp_path):
    folder, segments = make_job(tmp_path, 2)

    assert lines_of(folder, segments) == []
    assert lines_of(folder, []) == []
    assert list(read_failures(folder, segments)) == []


def test_an_empty_row_and_a_large_one_are_read_whole(tmp_path):
    folder, segments = make_job(tmp_path, 2)
    set_states(folder, segments[0], [ROWS, ROWS])
    large = b'"' + b"x" * 3_000_000 + b'"\n'
    append_entry(folder, "worker-0", 1, large)
    append_entry(folder, "worker-0", 0, b"\n")

    assert lines_of(folder, segments) == [b"\n", large]


def part_failures(*parts: tuple[int, int]) -> bytes:
    return b"".join(json.dumps({"type": "ValueError", "part": part}).encode() + b"\n" for part in parts)


def fail_in_part(folder: JobFolder, worker: str, batch: int, rows: bytes, *parts: tuple[int, int], token: int) -> None:
    append_entry(folder, worker, batch, rows, token=token)
    append_entry(folder, worker, batch, part_failures(*parts), token=token, kind=EntryKind.FAILURE)


def test_a_batch_that_failed_in_part_gives_its_good_rows_in_their_place_and_a_failure_for_each_part(tmp_path):
    folder, segments = make_job(tmp_path, 4)
    set_states(folder, segments[0], [ROWS, IN_PART, IN_PART, ROWS])
    for batch in (3, 0):
        append_entry(folder, "worker-0", batch, f"{batch}\n".encode())
    fail_in_part(folder, "worker-1", 2, b"", (0, 1), (1, 2), token=2)
    fail_in_part(folder, "worker-0", 1, b"1\n1\n", (0, 1), (3, 4), token=3)

    assert [b"0\n", b"1\n", b"1\n", b"3\n"] == lines_of(folder, segments)
    assert [(1, [0, 1]), (1, [3, 4]), (2, [0, 1]), (2, [1, 2])] == [
        (batch, each["part"]) for batch, each in read_failures(folder, segments)
    ]
    assert batches_without_rows(folder, segments[0]) == []


def test_rows_and_failures_of_a_batch_that_failed_in_part_are_of_the_same_attempt(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [IN_PART])
    fail_in_part(folder, "worker-0", 0, b"first\n", (0, 1), token=1)
    append_entry(folder, "worker-0", 0, failure(0), token=2, kind=EntryKind.FAILURE)  # it was tried again
    fail_in_part(folder, "worker-1", 0, b"third\n", (7, 8), token=3)
    append_entry(folder, "worker-0", 0, b"fourth\n", token=4)  # and its worker died before it wrote the failure

    assert [b"third\n"] == lines_of(folder, segments)
    assert [(0, {"type": "ValueError", "part": [7, 8]})] == list(read_failures(folder, segments))


@pytest.mark.parametrize("lost", [EntryKind.ROWS, EntryKind.FAILURE])
def test_a_batch_that_failed_in_part_is_run_again_if_either_entry_was_lost(tmp_path, lost):
    folder, segments = make_job(tmp_path, 3)
    set_states(folder, segments[0], [ROWS, IN_PART, IN_PART])
    append_entry(folder, "worker-0", 0, b"0\n", checksum=1)
    fail_in_part(folder, "worker-0", 1, b"1\n", (0, 1), token=1)
    for kind in {EntryKind.ROWS, EntryKind.FAILURE} - {lost}:
        append_entry(folder, "worker-0", 2, part_failures((0, 1)), kind=kind)

    assert [0, 2] == batches_without_rows(folder, segments[0])


def test_rows_of_some_of_the_items_never_stand_for_those_of_all(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    fail_in_part(folder, "worker-0", 0, b"some\n", (1, 2), token=1)
    append_entry(folder, "worker-1", 0, b"some\nall\n", token=2, checksum=1)  # a power cut has taken these

    assert [0] == batches_without_rows(folder, segments[0])
    with pytest.raises(ResultDamaged):
        lines_of(folder, segments)


def test_of_the_attempts_of_a_batch_the_last_one_is_its_failure(tmp_path):
    folder, segments = make_job(tmp_path, 2)
    set_states(folder, segments[0], [FAILED, ROWS])
    for token in (5, 9, 7):
        data = json.dumps({"message": f"token {token}"}).encode() + b"\n"
        for batch in (0, 1):
            append_entry(folder, f"worker-{token}", batch, data, token=token, kind=EntryKind.FAILURE)
    append_entry(folder, "worker-5", 1, b"1\n", token=11)

    assert [(0, {"message": "token 9"})] == list(read_failures(folder, segments))
    assert [b"1\n"] == lines_of(folder, segments)


def test_failed_batches_are_told_with_how_often_this_job_has_tried_them(tmp_path):
    folder, (first, second) = make_job(tmp_path, 3, 4)
    set_states(folder, first, [FAILED, ROWS, FAILED])
    set_states(folder, second, [GIVEN_UP, IN_PART, OPEN, FAILED])
    for token, batch in enumerate([0, 1, 0, 3, 4, 5, 0], 10):
        append_entry(folder, f"job-{token % 2}", batch, failure(batch), token=token, kind=EntryKind.FAILURE)
    fail_in_part(folder, "job-0", 4, b"", (0, 1), token=20)
    append_entry(folder, "earlier-0", 2, failure(2), token=1, kind=EntryKind.FAILURE)

    failed = [
        (each.batch, each.state, len(each.failures), each.attempts)
        for segment in (first, second)
        for each in read_failed(folder, segment, 0, 7, job_id="job")
    ]

    assert [
        (0, FAILED, 1, 3),
        (2, FAILED, 1, 0),
        (3, GIVEN_UP, 0, 1),
        (4, IN_PART, 1, 2),
        (6, FAILED, 0, 0),
    ] == failed
    assert [FailedBatch(batch=2, state=FAILED, failures=[json.loads(failure(2))], attempts=0)] == list(
        read_failed(folder, first, 1, 3, job_id="job")
    )


def test_endings_come_with_the_entries_that_count(tmp_path):
    folder, segments = make_job(tmp_path, 4, 3)
    set_states(folder, segments[0], [ROWS, NOTHING, FAILED, OPEN])
    set_states(folder, segments[1], [IN_PART, GIVEN_UP, ROWS])
    for token in (1, 3, 2):
        append_entry(folder, "worker-0", 0, b"1\n" * token, token=token)
        append_entry(folder, "worker-1", 2, failure(2), token=token, kind=EntryKind.FAILURE)
    append_entry(folder, "worker-1", 3, b"3\n")
    fail_in_part(folder, "worker-1", 4, b"4\n4\n", (0, 1), (2, 3), (7, 8), token=4)
    append_entry(folder, "worker-1", 5, failure(5), kind=EntryKind.FAILURE)

    endings = [
        (batch, state, rows and (rows.token, rows.rows), failed and (failed.token, failed.rows))
        for batch, state, rows, failed in read_endings(folder, segments, 0, 7)
    ]

    assert [
        (0, ROWS, (3, 3), None),
        (1, NOTHING, None, None),
        (2, FAILED, None, (3, 1)),
        (4, IN_PART, (4, 2), (4, 3)),
        (5, GIVEN_UP, None, None),
        (6, ROWS, None, None),
    ] == endings
    assert endings[2:4] == [
        (e[0], e[1], e[2] and (4, 2), e[3] and (e[3].token, e[3].rows)) for e in read_endings(folder, segments, 2, 5)
    ]
