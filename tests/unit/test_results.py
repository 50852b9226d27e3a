import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import ENTRY, BatchState, EntryKind
from cortex.storage.results import ResultDamaged, batches_without_rows, read_failures, read_rows
from job_files import append_entry, make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP = BatchState
STATES = st.lists(st.sampled_from(BatchState), max_size=40)


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

    assert [f"{batch}\n".encode() for batch in range(100)] == list(read_rows(folder, segments))


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

    assert [f"{batch}\n".encode() for batch in expected] == list(read_rows(folder, segments, first, end))


def test_a_few_of_many_batches_are_read_in_little_memory(tmp_path):
    folder, segments = make_job(tmp_path, 500_000)
    set_states(folder, segments[0], [ROWS] * 500_000)
    for batch in (400_000, 400_001):
        append_entry(folder, "worker-0", batch, f"{batch}\n".encode())
    entry = folder.index("worker-0").read_bytes()[-ENTRY.size :]
    with folder.index("worker-0").open("ab") as index:
        index.writelines(entry.replace((400_001).to_bytes(8, "little"), bytes(8), 1) for _ in range(500_000))

    tracemalloc.start()
    rows = list(read_rows(folder, segments, 400_000, 400_002))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert rows == [b"400000\n", b"400001\n"]
    assert peak < folder.index("worker-0").stat().st_size / 2


@given(STATES)
def test_only_what_the_state_bytes_say_is_visible(tmp_path_factory, states):
    folder, segments = make_job(tmp_path_factory.mktemp("job"), len(states))
    set_states(folder, segments[0], states)
    for batch in range(len(states)):  # entries are written before the byte, so there may be any
        append_entry(folder, "worker-0", batch, f"rows {batch}\n".encode())
        append_entry(folder, "worker-1", batch, failure(batch), kind=EntryKind.FAILURE)

    rows, failures = list(read_rows(folder, segments)), list(read_failures(folder, segments))

    assert [f"rows {batch}\n".encode() for batch, state in enumerate(states) if state is ROWS] == rows
    assert [(batch, json.loads(failure(batch))) for batch, state in enumerate(states) if state is FAILED] == failures


@pytest.mark.parametrize("order", [[1, 2, 3], [3, 2, 1], [2, 3, 1]])
@pytest.mark.parametrize("epoch", [0, 1 << 40, 2**63])
def test_of_several_entries_the_one_with_the_highest_token_counts(tmp_path, order, epoch):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    for token in order:
        append_entry(folder, f"worker-{token}", 0, f"token {token}\n".encode(), token=epoch + token)

    assert list(read_rows(folder, segments)) == [b"token 3\n"]


def test_a_failure_before_does_not_hide_the_rows_of_a_later_attempt(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    append_entry(folder, "worker-0", 0, b"rows\n", token=1)
    append_entry(folder, "worker-1", 0, failure(0), token=2, kind=EntryKind.FAILURE)

    assert list(read_rows(folder, segments)) == [b"rows\n"]
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

    assert list(read_rows(folder, segments)) == [b"from worker 0\n"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_that_must_be_there_and_are_not_are_never_left_out_in_silence(tmp_path, damage):
    folder, segments = make_job(tmp_path, 3)
    set_states(folder, segments[0], [ROWS, OPEN, ROWS])
    append_entry(folder, "worker-0", 0, b"from worker 0\n")
    append_entry(folder, "worker-1", 2, b"from worker 1\n")

    damage(tmp_path)

    with pytest.raises(ResultDamaged, match="batch 2"):
        list(read_rows(folder, segments))
    assert batches_without_rows(folder, segments[0]) == [2]


def test_rows_whose_part_is_gone_are_damaged(tmp_path):
    folder, segments = make_job(tmp_path, 1)
    set_states(folder, segments[0], [ROWS])
    append_entry(folder, "worker-0", 0, b"1\n")
    folder.rows("worker-0").unlink()

    with pytest.raises(ResultDamaged):
        list(read_rows(folder, segments))
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

    assert list(read_rows(folder, segments)) == []
    assert list(read_rows(folder, [])) == []
    assert list(read_failures(folder, segments)) == []


def test_an_empty_row_and_a_large_one_are_read_whole(tmp_path):
    folder, segments = make_job(tmp_path, 2)
    set_states(folder, segments[0], [ROWS, ROWS])
    large = b'"' + b"x" * 3_000_000 + b'"\n'
    append_entry(folder, "worker-0", 1, large)
    append_entry(folder, "worker-0", 0, b"\n")

    assert list(read_rows(folder, segments)) == [b"\n", large]
