"""What a rerun keeps of Batches that had failed in part."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import BatchState, EntryKind
from cortex.domain.layout import JobFolder
from cortex.domain.rerun import RerunWhat
from cortex.storage.inherit import Inheritance
from cortex.storage.kept import batches_kept, kept_parts
from cortex.storage.segments import SegmentDamaged, States
from job_files import append_entry, make_job, set_states

FIRST, SECOND, THIRD = f"{9:016x}", f"{8:016x}", f"{7:016x}"
OPEN, SUCCEEDED, FAILED = BatchState.OPEN, BatchState.SUCCEEDED, BatchState.FAILED
IN_PART, GIVEN_UP = BatchState.FAILED_IN_PART, BatchState.GIVEN_UP


class Story:
    """Jobs, each the rerun of the one before it."""

    def __init__(self, root: Path, *counts: int) -> None:
        self.root = root
        self.folder, self.segments = make_job(root / FIRST, *counts)

    def rerun(self, job: str) -> None:
        later = JobFolder(self.root / job)
        Inheritance(
            earlier=self.folder,
            folder=later,
            segments=self.segments,
            what=RerunWhat.FAILED,
            items_are_files=False,
        ).take()
        self.folder = later

    def failed_in_part(self, worker: str, batch: int, rows: bytes, *parts: tuple[int, int, int], token: int) -> None:
        """Let a Worker write what an isolated Batch leaves: the rows of the good Items, and the Parts that failed."""
        append_entry(self.folder, worker, batch, rows, token=token)
        lines = [{"type": "E", "part": [first, end], "rows_before": before} for first, end, before in parts]
        self.failure(worker, batch, *lines, token=token)

    def failure(self, worker: str, batch: int, *lines: dict[str, Any], token: int) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        append_entry(self.folder, worker, batch, data, token=token, kind=EntryKind.FAILURE)

    def end(self, *states: BatchState) -> None:
        for segment in self.segments:
            set_states(self.folder, segment, states[segment.first : segment.end])

    def kept(self) -> dict[int, Any]:
        return {
            batch: kept_parts(self.folder, batch) for each in self.segments for batch in batches_kept(self.folder, each)
        }


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path, 3, 1)


def test_the_rows_of_the_good_items_are_kept(story: Story) -> None:
    append_entry(story.folder, f"{FIRST}-a", 0, b"0\n")
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n2\n", (1, 2, 1), (3, 5, 2), token=1)
    story.failed_in_part(f"{FIRST}-b", 3, b"", (0, 2, 0), token=2)
    story.end(BatchState.SUCCEEDED_WITH_ROWS, IN_PART, FAILED, IN_PART)

    story.rerun(SECOND)

    expected = {
        1: {"worker": f"{FIRST}-a", "offset": 2, "length": 4, "failed": [[1, 2, 1], [3, 5, 2]]},
        3: {"worker": f"{FIRST}-b", "offset": 0, "length": 0, "failed": [[0, 2, 0]]},
    }
    assert expected == story.kept()
    assert None is kept_parts(story.folder, 0)
    assert None is kept_parts(story.folder, 2)


def test_items_that_failed_side_by_side_are_tried_together(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"0\n5\n", (1, 2, 1), (2, 3, 1), (3, 5, 1), (6, 7, 2), token=1)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)

    story.rerun(SECOND)

    assert [[1, 5, 1], [6, 7, 2]] == story.kept()[1]["failed"]


def test_the_last_attempt_counts(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-b", 1, b"late\n", (1, 2, 1), token=7)
    story.failed_in_part(f"{FIRST}-a", 1, b"early\n", (0, 2, 0), token=3)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)

    story.rerun(SECOND)

    assert {1: {"worker": f"{FIRST}-b", "offset": 0, "length": 5, "failed": [[1, 2, 1]]}} == story.kept()


def test_an_attempt_before_the_isolation_is_not_mistaken_for_it(story: Story) -> None:
    story.failure(f"{FIRST}-a", 1, {"type": "E"}, token=3)
    story.failed_in_part(f"{FIRST}-a", 1, b"row\n", (1, 2, 1), token=4)
    story.failure(f"{FIRST}-a", 1, {"type": "E"}, token=5)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)

    story.rerun(SECOND)

    assert [[1, 2, 1]] == story.kept()[1]["failed"]


def test_rows_of_an_attempt_whose_failures_could_not_be_stored_are_not_kept(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"row\n", (1, 2, 1), token=4)
    append_entry(story.folder, f"{FIRST}-a", 1, b"other\n", token=5)
    story.failure(f"{FIRST}-a", 1, {"type": "OSError"}, token=5)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)

    story.rerun(SECOND)

    assert {1: {"worker": f"{FIRST}-a", "offset": 0, "length": 4, "failed": [[1, 2, 1]]}} == story.kept()


def test_without_batches_that_failed_in_part_nothing_is_written(story: Story) -> None:
    story.failure(f"{FIRST}-a", 1, {"type": "E"}, token=3)
    story.end(SUCCEEDED, FAILED, GIVEN_UP, OPEN)

    story.rerun(SECOND)

    assert {} == story.kept()
    assert [] == list(story.folder.root.glob("kept*"))


@pytest.mark.parametrize("position", [0, 2])  # in the rows, in the failures
def test_a_batch_whose_rows_or_failures_are_damaged_runs_again_as_a_whole(story: Story, position: int) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n", (1, 2, 1), token=1)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)
    with story.folder.rows(f"{FIRST}-a").open("r+b") as rows:
        os.pwrite(rows.fileno(), b"\0", position)

    story.rerun(SECOND)

    assert {} == story.kept()
    assert OPEN == States(story.folder, story.segments[0]).read()[1]


def test_a_batch_that_has_ended_is_kept_no_more(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n", (1, 2, 1), token=1)
    story.failed_in_part(f"{FIRST}-a", 2, b"1\n", (1, 2, 1), token=1)
    story.end(SUCCEEDED, IN_PART, IN_PART, SUCCEEDED)
    story.rerun(SECOND)

    story.end(SUCCEEDED, SUCCEEDED, OPEN, SUCCEEDED)

    assert [2] == batches_kept(story.folder, story.segments[0])


@pytest.mark.parametrize("ending", [OPEN, FAILED, GIVEN_UP])
def test_what_a_rerun_has_not_used_the_next_one_keeps(story: Story, ending: BatchState) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n", (1, 2, 1), token=1)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)
    story.rerun(SECOND)
    kept = story.kept()
    story.end(SUCCEEDED, ending, SUCCEEDED, SUCCEEDED)

    story.rerun(THIRD)

    assert [1] == list(kept)
    assert kept == story.kept()


def test_a_rerun_that_failed_in_part_again_is_what_the_next_one_keeps(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n", (1, 3, 1), token=1)
    story.failed_in_part(f"{FIRST}-a", 2, b"1\n", (1, 3, 1), token=2)
    story.end(SUCCEEDED, IN_PART, IN_PART, SUCCEEDED)
    story.rerun(SECOND)
    story.failed_in_part(f"{SECOND}-a", 1, b"1\n2\n", (2, 3, 2), token=9)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)

    story.rerun(THIRD)

    assert {1: {"worker": f"{SECOND}-a", "offset": 0, "length": 4, "failed": [[2, 3, 2]]}} == story.kept()


def test_every_kept_batch_of_many_is_found(tmp_path: Path) -> None:
    story = Story(tmp_path, 500, 500)
    for batch in range(0, 1000, 3):
        story.failed_in_part(f"{FIRST}-a", batch, f"{batch}\n".encode(), (1, 2, 1), token=batch + 1)
    story.end(*(IN_PART if batch % 3 == 0 else SUCCEEDED for batch in range(1000)))

    story.rerun(SECOND)

    rows = story.folder.rows(f"{FIRST}-a").read_bytes()
    found = {batch: rows[kept["offset"] :][: kept["length"]] for batch, kept in story.kept().items()}
    assert {batch: f"{batch}\n".encode() for batch in range(0, 1000, 3)} == found


def test_a_job_that_is_no_rerun_has_kept_nothing(story: Story) -> None:
    assert {} == story.kept()
    assert None is kept_parts(story.folder, 1)


def test_damage_to_what_was_found_is_told(story: Story) -> None:
    story.failed_in_part(f"{FIRST}-a", 1, b"1\n", (1, 2, 1), token=1)
    story.end(SUCCEEDED, IN_PART, SUCCEEDED, SUCCEEDED)
    story.rerun(SECOND)
    os.truncate(story.folder.kept, 4)

    with pytest.raises(SegmentDamaged):
        kept_parts(story.folder, 1)
