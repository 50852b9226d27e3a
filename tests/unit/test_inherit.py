"""The folder of a rerun: whole in itself, and the earlier folder as it was."""

import errno
import os
import shutil
import zlib
from pathlib import Path

import pytest

from cortex.domain.batch import BatchState
from cortex.domain.job import SegmentRange
from cortex.domain.layout import JobFolder
from cortex.domain.rerun import RerunWhat
from cortex.storage.inherit import Inheritance, Inherited
from cortex.storage.payload import read_payload
from cortex.storage.results import read_rows
from cortex.storage.segments import SegmentDamaged, States
from job_files import append_entry, make_job, set_states

EARLIER, LATER = f"{9:016x}", f"{8:016x}"
OPEN, SUCCEEDED, ROWS = BatchState.OPEN, BatchState.SUCCEEDED, BatchState.SUCCEEDED_WITH_ROWS
FAILED, GIVEN_UP, IN_PART = BatchState.FAILED, BatchState.GIVEN_UP, BatchState.FAILED_IN_PART
ALL_STATES = [ROWS, FAILED, SUCCEEDED, GIVEN_UP, IN_PART, OPEN]


class Story:
    """A Job of two Segments, in whose first each state occurs, and what a rerun takes over of it."""

    def __init__(self, root: Path) -> None:
        self.earlier, self.segments = make_job(root / EARLIER, len(ALL_STATES), 2)
        self.folder = JobFolder(root / LATER)
        set_states(self.earlier, self.segments[0], ALL_STATES)
        set_states(self.earlier, self.segments[1], [SUCCEEDED, FAILED])
        append_entry(self.earlier, f"{EARLIER}-w", 0, b'"first"\n')

    def take(self, what: RerunWhat = RerunWhat.FAILED, *, items_are_files: bool = False) -> Inherited:
        return Inheritance(
            earlier=self.earlier,
            folder=self.folder,
            segments=self.segments,
            what=what,
            items_are_files=items_are_files,
        ).take()

    def states(self) -> list[BatchState]:
        return [BatchState(byte) for segment in self.segments for byte in States(self.folder, segment).read()]


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def contents(folder: JobFolder) -> dict[str, bytes]:
    paths = (path for path in folder.root.rglob("*") if path.is_file())
    return {str(path.relative_to(folder.root)): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (RerunWhat.FAILED, [ROWS, OPEN, SUCCEEDED, OPEN, OPEN, OPEN, SUCCEEDED, OPEN]),
        (RerunWhat.ALL, [OPEN] * 8),
        (RerunWhat.HOOK, [*ALL_STATES, SUCCEEDED, FAILED]),
    ],
)
def test_what_is_to_run_again_is_open(story: Story, what: RerunWhat, expected: list[BatchState]) -> None:
    inherited = story.take(what)

    assert expected == story.states()
    assert Inherited(failed=4, open=1) == inherited


@pytest.mark.parametrize("what", RerunWhat)
def test_the_earlier_folder_stays_as_it_was(story: Story, what: RerunWhat) -> None:
    before = contents(story.earlier)

    story.take(what)
    for segment in story.segments:
        States(story.folder, segment).store(segment.first, GIVEN_UP)

    assert before == contents(story.earlier)


def test_a_rerun_needs_nothing_of_the_earlier_folder(story: Story) -> None:
    story.earlier.listing.write_text("the files")
    story.take()

    shutil.rmtree(story.earlier.root)

    assert [b'"first"\n'] == list(read_rows(story.folder, story.segments))
    payload = [pair for segment in story.segments for pair in read_payload(story.folder, segment, batches_of(segment))]
    assert [(batch, f"[{batch}]".encode()) for batch in range(8)] == payload
    assert "the files" == story.folder.listing.read_text()


def batches_of(segment: SegmentRange) -> range:
    return range(segment.first, segment.end)


def test_the_dataset_and_the_results_take_no_room_twice(story: Story) -> None:
    story.take()

    linked = {path.name for path in story.folder.root.rglob("*") if path.is_file() and path.stat().st_nlink == 2}
    names = {"000000.payload", "000000.offsets", "000001.payload", "000001.offsets"}
    assert {*names, f"{EARLIER}-w.rows", f"{EARLIER}-w.index"} == linked


def test_where_all_runs_again_no_result_is_taken_over(story: Story) -> None:
    story.take(RerunWhat.ALL)

    assert [] == list(story.folder.workers.iterdir())


def test_a_page_is_not_taken_over(story: Story) -> None:
    story.earlier.page(f"{EARLIER}-w").write_bytes(bytes(128))

    story.take()

    assert [] == list(story.folder.workers.glob("*.page"))


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_what_cannot_be_linked_is_copied(story: Story, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_link)

    story.take()

    assert [b'"first"\n'] == list(read_rows(story.folder, story.segments))
    assert {1} == {path.stat().st_nlink for path in story.folder.root.rglob("*") if path.is_file()}


def test_a_full_disk_is_no_reason_to_copy(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", no_room)

    with pytest.raises(OSError, match="No space left"):
        story.take()


def test_every_file_and_folder_is_synced(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = set()

    def note(file: int) -> None:
        synced.add(os.fstat(file).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "fdatasync", note)
    set_states(story.earlier, story.segments[1], [IN_PART, FAILED])

    story.take()

    there = [story.folder.root.parent, story.folder.root, *story.folder.root.rglob("*")]
    assert [] == [path for path in there if path.stat().st_ino not in synced]


@pytest.mark.parametrize(
    "damage",
    [
        lambda earlier: earlier.payload(1).unlink(),
        lambda earlier: earlier.offsets(1).unlink(),
        lambda earlier: earlier.states(1).unlink(),
        lambda earlier: earlier.rows(f"{EARLIER}-w").unlink(),
        lambda earlier: os.truncate(earlier.payload(1), 3),
        lambda earlier: os.truncate(earlier.offsets(1), 8),
        lambda earlier: os.truncate(earlier.states(1), 1),
        lambda earlier: os.truncate(earlier.rows(f"{EARLIER}-w"), 3),
        lambda earlier: earlier.states(1).write_bytes(b"\1\x77"),
        lambda earlier: shutil.rmtree(earlier.root),
    ],
)
def test_a_damaged_job_is_told(story: Story, damage: object) -> None:
    damage(story.earlier)  # type: ignore[operator]

    with pytest.raises(SegmentDamaged):
        story.take()


def test_where_all_runs_again_damaged_results_do_not_matter(story: Story) -> None:
    story.earlier.rows(f"{EARLIER}-w").unlink()

    story.take(RerunWhat.ALL)

    assert [OPEN] * 8 == story.states()


def test_what_was_uploaded_as_items_is_taken_over_with_their_paths(tmp_path: Path) -> None:
    story = Story(tmp_path)
    upload = story.earlier.uploads / "a" / "b" / "one.jpg"
    upload.parent.mkdir(parents=True)
    upload.write_text("the picture")
    items = [f'["{upload}"]'.encode(), b'["/elsewhere/two.jpg"]']
    story.earlier.payload(1).write_bytes(b"".join(items))
    ends = [0, len(items[0]), len(items[0]) + len(items[1])]
    story.earlier.offsets(1).write_bytes(b"".join(end.to_bytes(4, "little") for end in ends))
    story.earlier.listing.write_text(f'["{upload}",11,null]\n["/elsewhere/two.jpg",1,null]\n')

    story.take(items_are_files=True)
    shutil.rmtree(story.earlier.root)

    taken = [payload for _, payload in read_payload(story.folder, story.segments[1], [6, 7])]
    path = story.folder.uploads / "a" / "b" / "one.jpg"
    assert [f'["{path}"]'.encode(), items[1]] == taken
    assert "the picture" == path.read_text()
    assert 4 * (3 + 2) == story.folder.offsets(1).stat().st_size  # with the checksums of what they are now
    assert f'["{path}",11,null]\n["/elsewhere/two.jpg",1,null]\n' == story.folder.listing.read_text()


def test_items_that_are_copied_are_checked(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.earlier.uploads.mkdir()
    with story.earlier.offsets(1).open("ab") as file:
        file.write(zlib.crc32(b"[6]").to_bytes(4, "little") + zlib.crc32(b"[8]").to_bytes(4, "little"))

    with pytest.raises(SegmentDamaged, match="batch 7"):
        story.take(items_are_files=True)
