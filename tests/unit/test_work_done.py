"""What Workers have done is read from their pages, of which there may be thousands."""

from dataclasses import replace
from pathlib import Path

import pytest

import samples
from cortex.domain.batch import Page
from cortex.domain.job import JobStatus
from cortex.domain.layout import JobFolder
from cortex.operator.work import WorkDone
from cortex.storage.pages import create_page

JOB = replace(samples.JOB, item_count=9, total_batch_count=9, status=JobStatus.RUNNING)
SECOND = 10**9


def finish(folder: JobFolder, worker: str, batches: int) -> None:
    """Have a Worker end so many Batches, each in two seconds."""
    create_page(folder, worker)
    words = memoryview(bytearray(folder.page(worker).read_bytes())).cast("Q")
    words[Page.FINISHED], words[Page.BUSY_NS] = batches, 2 * batches * SECOND
    folder.page(worker).write_bytes(words)


@pytest.mark.parametrize(("workers", "expected"), [(64, (4, 8.0)), (65, (1, 2.0))])
def test_the_pages_of_few_workers_are_read_each_time_and_those_of_many_once_a_second(
    tmp_path: Path, workers: int, expected: tuple[int, float]
) -> None:
    folder, job, work = JobFolder(tmp_path), replace(JOB, workers=workers), WorkDone()
    folder.workers.mkdir()
    finish(folder, "w1", 1)
    first = work.of(job, folder, now_ns=10 * SECOND)
    finish(folder, "w2", 3)

    assert (1, 2.0) == first
    assert expected == work.of(job, folder, now_ns=11 * SECOND - 1)
    assert (4, 8.0) == work.of(job, folder, now_ns=11 * SECOND)


def test_a_clock_that_is_set_back_keeps_nothing_old(tmp_path: Path) -> None:
    folder, job, work = JobFolder(tmp_path), replace(JOB, workers=65), WorkDone()
    folder.workers.mkdir()
    work.of(job, folder, now_ns=10 * SECOND)
    finish(folder, "w1", 1)

    assert (1, 2.0) == work.of(job, folder, now_ns=9 * SECOND)
