"""How often predict has raised, read from what the Workers have written."""

import json
import tracemalloc
from pathlib import Path

import numpy as np

from cortex.domain.batch import ENTRY, ENTRY_FIELDS, EntryKind
from cortex.domain.layout import JobFolder
from cortex.storage.attempts import AttemptReader, attempts_before, failed_items
from job_files import append_entry, make_job

JOB_ID = "69d6faf82e4660d3"
FIRST, SECOND = f"{JOB_ID}-0000aaaa", f"{JOB_ID}-0000bbbb"
INHERITED = "7fffffffffffffff-0000aaaa"


def fail(folder: JobFolder, worker: str, batch: int, token: int, items: int = 1) -> None:
    lines = b"".join(json.dumps({"part": [item, item + 1]}).encode() + b"\n" for item in range(items))
    append_entry(folder, worker, batch, lines, token=token, kind=EntryKind.FAILURE)


def test_an_attempt_that_failed_is_told_once(tmp_path: Path) -> None:
    folder, _ = make_job(tmp_path, 9)
    reader = AttemptReader(folder, JOB_ID)
    before = reader.read_worker(FIRST)
    fail(folder, FIRST, 3, token=7)
    append_entry(folder, FIRST, 4, b"1\n", token=7)
    fail(folder, FIRST, 5, token=7, items=4)
    fail(folder, SECOND, 3, token=8)

    first, second = reader.read_worker(FIRST), reader.read_worker(SECOND)
    fail(folder, FIRST, 5, token=9)

    assert ([], [(3, 7, 1), (5, 7, 4)], [(3, 8, 1)]) == (before, first, second)
    assert ([(5, 9, 1)], []) == (reader.read_worker(FIRST), reader.read_worker(FIRST))


def test_an_entry_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path) -> None:
    folder, _ = make_job(tmp_path, 9)
    reader = AttemptReader(folder, JOB_ID)
    fail(folder, FIRST, 3, token=7)
    fail(folder, FIRST, 4, token=7)
    whole = folder.index(FIRST).read_bytes()

    folder.index(FIRST).write_bytes(whole[: ENTRY.size + 5])
    in_part = reader.read_worker(FIRST)
    folder.index(FIRST).write_bytes(whole)

    assert ([(3, 7, 1)], [(4, 7, 1)]) == (in_part, reader.read_worker(FIRST))


def test_the_attempts_of_a_job_are_those_of_its_own_workers(tmp_path: Path) -> None:
    folder, _ = make_job(tmp_path, 9)
    fail(folder, INHERITED, 3, token=1)
    fail(folder, FIRST, 3, token=7)
    fail(folder, SECOND, 3, token=8)
    fail(folder, SECOND, 5, token=8)
    append_entry(folder, SECOND, 6, b"1\n", token=8)

    assert {3: 2, 5: 1} == attempts_before(folder, JOB_ID)
    assert [] == AttemptReader(folder, JOB_ID).read_worker(INHERITED)


def test_of_a_large_index_only_what_has_failed_is_in_memory(tmp_path: Path) -> None:
    folder, _ = make_job(tmp_path, 9)
    append_entry(folder, FIRST, 0, b"1\n")
    entries = np.repeat(np.fromfile(folder.index(FIRST), np.dtype(ENTRY_FIELDS)), 1_000_000)
    entries["batch"] = np.arange(1_000_000)
    entries["kind"][::100_000] = EntryKind.FAILURE
    entries.tofile(folder.index(FIRST))
    del entries

    tracemalloc.start()
    try:
        attempts = attempts_before(folder, JOB_ID)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert dict.fromkeys(range(0, 1_000_000, 100_000), 1) == attempts
    assert peak < 8_000_000


def test_the_items_that_failed_are_those_of_the_last_attempt(tmp_path: Path) -> None:
    folder, _ = make_job(tmp_path, 9)
    fail(folder, FIRST, 3, token=1, items=9)
    fail(folder, SECOND, 3, token=8, items=2)
    fail(folder, INHERITED, 3, token=7, items=1)
    fail(folder, INHERITED, 5, token=7, items=4)
    fail(folder, FIRST, 6, token=7, items=5)

    assert {3: 2, 5: 4} == failed_items(folder, [5, 3, 8])
    assert {} == failed_items(folder, [])
