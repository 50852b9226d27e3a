"""Failed batches as lines: each of them, why, and what was in it."""

import json
import tracemalloc
from collections import deque
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.batch import ENTRY_FIELDS, BatchState, EntryKind
from cortex.domain.identity import batch_id
from cortex.domain.isolation import DeathKind, Part
from cortex.domain.job import Job, JobStatus, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.operator.failures import failed_items, failure_lines
from cortex.storage import results
from cortex.storage.memory import MemoryLedger
from cortex.storage.payload import split_items
from cortex.storage.segments import SegmentDamaged
from job_files import append_entry, make_job, set_states

OPEN, NOTHING, ROWS, FAILED, GIVEN_UP, IN_PART = BatchState
JOB_ID = "69d6faf82e4660d3"
RAISED = {"type": "ValueError", "message": "as asked", "traceback": "…", "at_ns": 1_595_207_264_000_000_005, "pid": 7}


class Story:
    """A Job of three Segments, in batches of ten items, and what is asked of it."""

    def __init__(self, root: Path) -> None:
        self.ledger = MemoryLedger()
        self.folder, self.segments = make_job(root, 3, 1, 4)
        self.job = Job(
            id=JOB_ID,
            api_name="api",
            api_id="v1",
            workers=1,
            config=None,
            batch_size=10,
            item_count=75,
            total_batch_count=8,
            status=JobStatus.RUNNING,
            created_at_ns=1,
        )
        self.ledger.add_job(self.job, self.segments)

    def raised(self, batch: int, token: int = 1, **changes: Any) -> None:
        data = json.dumps({**RAISED, "message": f"batch {batch}", **changes}).encode() + b"\n"
        append_entry(self.folder, f"{JOB_ID}-{batch % 2}", batch, data, token=token, kind=EntryKind.FAILURE)

    def failed_in_part(self, batch: int, *lines: dict[str, Any], token: int = 1) -> None:
        data = b"".join(json.dumps({**RAISED, **line}).encode() + b"\n" for line in lines)
        append_entry(self.folder, f"{JOB_ID}-0", batch, b"", token=token)
        append_entry(self.folder, f"{JOB_ID}-0", batch, data, token=token, kind=EntryKind.FAILURE)

    def die(
        self,
        batch: int,
        times: int,
        cause: str = "was lost",
        *,
        kind: DeathKind = DeathKind.DIED,
        part: Part | None = None,
    ) -> None:
        for _ in range(times):
            self.ledger.charge_death(JOB_ID, batch, part or Part(0, self.job.items_of(batch)), kind=kind, cause=cause)

    def failures(self, first: int = 0, end: int = 8) -> list[dict[str, Any]]:
        return [json.loads(line) for line in failure_lines(self.job, self.folder, self.ledger, first, end)]

    def items(self, first: int = 0, end: int = 8) -> list[bytes]:
        return list(failed_items(self.job, self.folder, self.ledger, first, end))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_every_failed_batch_is_told_in_input_order(story: Story) -> None:
    for segment, states in zip(
        story.segments,
        ([FAILED, GIVEN_UP, ROWS], [GIVEN_UP], [OPEN, FAILED, NOTHING, FAILED]),
        strict=True,
    ):
        set_states(story.folder, segment, states)
    for batch in (7, 0, 5):
        story.raised(batch)

    failures = story.failures()

    assert [(0, 10), (10, 10), (30, 10), (50, 10), (70, 5)] == [
        (each["first_item"], each["items"]) for each in failures
    ]
    assert [batch_id(JOB_ID, batch) for batch in (0, 1, 3, 5, 7)] == [each["batch_id"] for each in failures]
    assert failures[1:4] == story.failures(1, 6)
    assert [] == story.failures(4, 5)


def test_what_predict_raised_is_told_with_where_and_when(story: Story) -> None:
    set_states(story.folder, story.segments[0], [ROWS, FAILED, OPEN])
    story.raised(1)
    story.die(1, 2)

    assert story.failures() == [
        {
            "batch_id": batch_id(JOB_ID, 1),
            "first_item": 10,
            "items": 10,
            "type": "ValueError",
            "message": "batch 1",
            "traceback": "…",
            "attempts": 3,
            "worker": "pid-7",
            "time": "2020-07-20T01:07:44.000000005Z",
        }
    ]


def test_a_failure_that_an_earlier_version_kept_is_told_without_what_it_lacks(story: Story) -> None:
    set_states(story.folder, story.segments[1], [FAILED])
    data = json.dumps({"type": "KeyError", "message": "'a'", "traceback": "…"}).encode() + b"\n"
    append_entry(story.folder, f"{JOB_ID}-0", 3, data, kind=EntryKind.FAILURE)

    (failure,) = story.failures()

    assert {"batch_id", "first_item", "items", "type", "message", "traceback", "attempts"} == set(failure)
    assert ("KeyError", "'a'", 1) == (failure["type"], failure["message"], failure["attempts"])


@pytest.mark.parametrize(
    ("expected", "cause", "kind"),
    [
        ("WorkerDied", "was killed by signal 11 (SIGSEGV)", DeathKind.DIED),
        ("OutOfMemory", "ran out of memory and was killed", DeathKind.OUT_OF_MEMORY),
        ("BatchTimeout", "was ended because predict took longer than 30 seconds", DeathKind.TIMED_OUT),
    ],
)
def test_a_batch_that_was_given_up_is_told_with_its_deaths(
    story: Story, expected: str, cause: str, kind: DeathKind
) -> None:
    set_states(story.folder, story.segments[0], [OPEN, OPEN, GIVEN_UP])
    story.die(2, 3, cause, kind=kind)

    (failure,) = story.failures()

    assert {"type": expected, "message": f"its worker {cause}", "attempts": 3} == {
        name: value for name, value in failure.items() if name not in {"batch_id", "first_item", "items"}
    }


def test_a_failed_batch_of_which_nothing_is_known_is_told_all_the_same(story: Story) -> None:
    set_states(story.folder, story.segments[0], [FAILED, GIVEN_UP, ROWS])

    assert ["Unknown", "WorkerDied"] == [failure["type"] for failure in story.failures()]


def test_the_items_of_failed_batches_are_lines_with_every_digit(story: Story) -> None:
    set_states(story.folder, story.segments[0], [FAILED, ROWS, GIVEN_UP])
    payload = ['[1.10,\n 123456789012345678901234567890, "a\\nb"]', "[]", r'["\ud800"]']
    write_payload(story.folder, story.segments[0], payload)

    lines = story.items()

    assert [
        b'{"batch_id": "%b", "items": [1.10,  123456789012345678901234567890, "a\\nb"]}\n' % name(0),
        b'{"batch_id": "%b", "items": ["\\ud800"]}\n' % name(2),
    ] == lines
    assert lines[1:] == story.items(1)


def test_items_that_are_gone_are_an_error(story: Story) -> None:
    set_states(story.folder, story.segments[0], [FAILED, FAILED, FAILED])
    story.folder.payload(0).write_bytes(b"[0][")

    with pytest.raises(SegmentDamaged, match="cut short"):
        story.items()
    story.folder.payload(0).unlink()
    with pytest.raises(SegmentDamaged, match="No such file"):
        story.items()


def test_each_part_that_failed_is_a_line_of_its_own_items(story: Story) -> None:
    set_states(story.folder, story.segments[2], [ROWS, IN_PART, NOTHING, IN_PART])
    story.raised(5)
    gave_up = {"part": [3, 4], "rows_before": 3, "type": "WorkerDied", "message": "its worker was lost"}
    story.failed_in_part(5, gave_up, {"part": [7, 10], "rows_before": 6, "message": "three"}, token=2)
    story.die(5, 1, part=Part(0, 10))
    story.die(5, 2, part=Part(3, 4), kind=DeathKind.TIMED_OUT)
    story.failed_in_part(7, {"part": [4, 5], "rows_before": 4})

    failures = story.failures()

    assert [(5, 53, 1, 5, "its worker was lost"), (5, 57, 3, 5, "three"), (7, 74, 1, 1, "as asked")] == [
        (batch, each["first_item"], each["items"], each["attempts"], each["message"])
        for batch, each in zip((5, 5, 7), failures, strict=True)
    ]
    assert [batch_id(JOB_ID, batch) for batch in (5, 5, 7)] == [each["batch_id"] for each in failures]
    assert not any({"part", "rows_before"} & each.keys() for each in failures)


def test_a_batch_that_failed_as_a_whole_is_told_as_a_whole_whatever_an_earlier_attempt_has_left(story: Story) -> None:
    set_states(story.folder, story.segments[0], [ROWS, FAILED, ROWS])
    story.raised(1, part=[3, 4], rows_before=3)

    assert [(10, 10)] == [(each["first_item"], each["items"]) for each in story.failures()]


def test_attempts_are_those_that_raised_and_those_that_died(story: Story) -> None:
    set_states(story.folder, story.segments[0], [FAILED, GIVEN_UP, ROWS])
    for batch, tokens in {0: (1, 2, 3), 1: (1, 2), 2: (1,)}.items():
        for token in tokens:
            story.raised(batch, token)
    story.die(0, 1)
    story.die(1, 3)

    assert [4, 5] == [failure["attempts"] for failure in story.failures()]


def test_the_batches_of_a_rerun_keep_their_names(story: Story) -> None:
    story.job = replace(story.job, id="00000000000000ff", rerun_of=JOB_ID, origin=JOB_ID)
    story.ledger.add_job(story.job, story.segments)
    set_states(story.folder, story.segments[1], [FAILED])

    assert [batch_id(JOB_ID, 3)] == [failure["batch_id"] for failure in story.failures()]
    assert [name(3)] == [json.loads(line)["batch_id"].encode() for line in story.items()]


def test_of_a_batch_that_failed_in_part_only_the_failed_items_are_lines(story: Story) -> None:
    set_states(story.folder, story.segments[0], [FAILED, IN_PART, ROWS])
    payload = ["[0]", ' [ 1.10, [2,\n"]"] ,{"a": "\\ud800"},123456789012345678901234567890,"e"]', "[2]"]
    write_payload(story.folder, story.segments[0], payload)
    story.failed_in_part(1, {"part": [0, 1]}, {"part": [2, 4]})

    assert [
        b'{"batch_id": "%b", "items": [0]}\n' % name(0),
        b'{"batch_id": "%b", "items": [1.10]}\n' % name(1),
        b'{"batch_id": "%b", "items": [{"a": "\\ud800"}, 123456789012345678901234567890]}\n' % name(1),
    ] == story.items()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=6), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_items_of_a_payload_are_split_however_it_is_written(
    items: list[Any], indent: int | str | None, ensure_ascii: bool
) -> None:
    payload = json.dumps(items, indent=indent, ensure_ascii=ensure_ascii).encode()

    split = split_items(payload)

    assert items == [json.loads(item) for item in split]
    assert [b"9" * 5000] == split_items(b"[" + b"9" * 5000 + b"]")  # more digits than Python takes for a number
    assert all(item in payload and item == item.strip() for item in split)


def test_of_a_million_failures_few_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_FAILED_AT_ONCE", 10_000)
    folder, (segment,) = make_job(tmp_path, 1_000_000)
    set_states(folder, segment, [FAILED] * 1_000_000)
    worker = f"{JOB_ID}-0"
    append_entry(folder, worker, 0, b"{}\n", kind=EntryKind.FAILURE)
    entries = np.repeat(np.fromfile(folder.index(worker), np.dtype(ENTRY_FIELDS)), 1_000_000)
    entries["batch"] = np.arange(1_000_000)
    entries.tofile(folder.index(worker))
    del entries

    tracemalloc.start()
    try:
        failures = islice(results.read_failed(folder, segment, 0, 1_000_000, job_id=JOB_ID), 20_001)
        last = deque(failures, maxlen=1)[0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert results.FailedBatch(batch=20_000, state=FAILED, failures=[{}], attempts=1) == last
    assert peak < 32_000_000


def write_payload(folder: JobFolder, segment: SegmentRange, payload: list[str]) -> None:
    ends = np.cumsum([0, *(len(each.encode()) for each in payload)])
    folder.payload(segment.number).write_text("".join(payload))
    folder.offsets(segment.number).write_bytes(ends.astype("<u4").tobytes())


def name(batch: int) -> bytes:
    return batch_id(JOB_ID, batch).encode()
