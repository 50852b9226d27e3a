"""The files of a small job: kept by the ledger until they are on the disk, and written again after a power cut."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import samples
from cortex.domain.batch import BatchState
from cortex.domain.job import JobStatus, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage import files, small_files
from cortex.storage.ledger import UnsyncedFile, Version
from cortex.storage.memory import MemoryLedger
from cortex.storage.segments import write_segments
from cortex.storage.small_files import is_small, read_results, sync_unsynced, write_again, write_dataset

VERSION = Version(
    api_id="v1", api_name="api", kind="BatchAPI", endpoint="/api", spec={}, project_id="p", deployed_at_ns=1
)
JOB = replace(samples.JOB, item_count=3, total_batch_count=3)
BATCHES = [b"[1]", b"[22]", b"[]"]
KIBIBYTE = 1024


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / JOB.id)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Give the files and folders that are synced, in order."""
    paths: list[Path] = []
    monkeypatch.setattr(files, "sync_file", paths.append)
    monkeypatch.setattr(files, "sync_file_system", lambda path: bool(paths.append(path)) or True)
    return paths


def content_of(folder: JobFolder) -> dict[str, bytes]:
    """Give every file below a folder."""
    return {str(path.relative_to(folder.root)): path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}


def recorded(batches: dict[str, bytes]) -> MemoryLedger:
    """Give a ledger that has these files of a Job."""
    ledger = MemoryLedger()
    ledger.deploy([VERSION])
    ledger.add_job(JOB, [SegmentRange(number=0, first=0, count=3)], None, (), batches)
    return ledger


def test_a_small_dataset_is_what_a_large_one_would_be_and_given_to_be_written_down(
    folder: JobFolder, tmp_path: Path
) -> None:
    other = JobFolder(tmp_path / "other")
    segments = write_segments(other, BATCHES)

    dataset = write_dataset(folder, BATCHES)

    assert is_small(BATCHES)
    assert segments == list(dataset.segments)
    assert content_of(other) == content_of(folder) == dict(dataset.files)
    assert folder.workers.is_dir()


@pytest.mark.parametrize(
    "batches", [[], [b"x" * 64 * KIBIBYTE], [b"x" * KIBIBYTE] * 64, [b"1"] * (64 * KIBIBYTE // 10 + 1)]
)
def test_a_dataset_that_is_large_or_none_is_not_written_down(folder: JobFolder, batches: list[bytes]) -> None:
    dataset = write_dataset(folder, batches)

    assert not is_small(batches)
    assert dict(dataset.files) == {}
    assert len(batches) == sum(segment.count for segment in dataset.segments)
    assert folder.segments.is_dir()


def leave_results(folder: JobFolder, size: int = 3, parts: int = 1) -> dict[str, bytes]:
    """Leave what Workers leave; give what is to be written down of it."""
    dataset = write_dataset(folder, BATCHES)
    left = {folder.states(0): bytes([BatchState.SUCCEEDED] * 3)}
    for number in range(parts):
        left |= {folder.rows(f"w{number}"): b"r" * size, folder.index(f"w{number}"): b"i"}
        folder.page(f"w{number}").write_bytes(b"a page")
    for path, content in left.items():
        path.write_bytes(content)
    assert len(dataset.files) == 3
    return {str(path.relative_to(folder.root)): content for path, content in left.items()}


@pytest.mark.parametrize("size", [0, 3, 64 * KIBIBYTE - 4])
def test_small_results_are_given_without_pages_and_payload(folder: JobFolder, size: int) -> None:
    left = leave_results(folder, size)

    assert left == read_results(folder)


@pytest.mark.parametrize(("size", "parts"), [(64 * KIBIBYTE - 3, 1), (0, 32)])
def test_results_that_are_large_or_many_are_not_given(folder: JobFolder, size: int, parts: int) -> None:
    leave_results(folder, size, parts)

    assert read_results(folder) is None


def test_results_that_are_not_there_are_not_given(folder: JobFolder) -> None:
    leave_results(folder)
    shutil.rmtree(folder.workers)

    assert read_results(folder) is None


def test_after_a_power_cut_the_files_are_as_they_were_written_down(folder: JobFolder) -> None:
    ledger = recorded(dict(write_dataset(folder, BATCHES).files))
    before = content_of(folder)
    shutil.rmtree(folder.root)

    for _ in range(2):  # it may be repeated
        write_again(folder.root.parent, ledger)

        assert before == content_of(folder)
        assert folder.workers.is_dir()


def test_of_a_file_that_was_written_down_twice_the_later_one_counts(folder: JobFolder) -> None:
    ledger = recorded(dict(write_dataset(folder, BATCHES).files))
    ledger.move(JOB.id, JobStatus.RUNNING, at_ns=1, files={"segments/000000.states": b"\x01\x00\x02"})
    shutil.rmtree(folder.root)

    write_again(folder.root.parent, ledger)

    assert b"\x01\x00\x02" == folder.states(0).read_bytes()


@pytest.mark.parametrize(
    ("there", "expected"),
    [(b"\x01\x00\x02", b"\x01\x00\x02"), (b"\x01\x00", bytes(3)), (b"", bytes(3)), (None, bytes(3))],
)
def test_an_ending_that_the_disk_has_is_not_undone(folder: JobFolder, there: bytes | None, expected: bytes) -> None:
    ledger = recorded(dict(write_dataset(folder, BATCHES).files))
    folder.states(0).unlink()
    if there is not None:
        folder.states(0).write_bytes(there)

    write_again(folder.root.parent, ledger)

    assert expected == folder.states(0).read_bytes()


def test_files_are_synced_with_the_folders_that_name_them(folder: JobFolder, synced: list[Path]) -> None:
    ledger = recorded(dict(write_dataset(folder, BATCHES).files))
    synced.clear()

    sync_unsynced(folder.root.parent, ledger.unsynced())

    named = [folder.payload(0), folder.offsets(0), folder.states(0)]
    assert [*named, folder.segments, folder.workers, folder.root, folder.root.parent] == synced


def test_where_many_are_to_be_synced_all_that_was_written_is(folder: JobFolder, synced: list[Path]) -> None:
    many = [UnsyncedFile(number=number, job_id=JOB.id, name=f"workers/{number}.rows") for number in range(40)]

    sync_unsynced(folder.root.parent, many)

    assert [folder.root.parent] == synced


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_removed_meanwhile_needs_no_sync(folder: JobFolder, count: int) -> None:
    gone = [UnsyncedFile(number=number, job_id=f"{number:016x}", name="workers/w.rows") for number in range(count)]

    small_files.sync_unsynced(folder.root.parent, gone)
