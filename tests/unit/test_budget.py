"""The disk budget: what is removed for it, in which order, and what is refused where nothing can be."""

import asyncio
import os
from pathlib import Path

import pytest

from cortex.domain.errors import StorageFull
from cortex.operator.upkeep import budget as module
from cortex.operator.upkeep.budget import DiskBudget
from cortex.storage.usage import measure
from keeping import KB, NOW_NS, Kept


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "data")


def used(kept: Kept) -> int:
    return budget(kept, 1)._measure(set())


def budget(kept: Kept, limit_bytes: int) -> DiskBudget:
    return DiskBudget(limit_bytes=limit_bytes, data=kept.data, ledger=kept.ledger, prune=kept.prune)


def keep(kept: Kept, limit_bytes: int) -> DiskBudget:
    """Have a budget looked after once."""
    kept_to = budget(kept, limit_bytes)
    asyncio.run(kept_to.look())
    return kept_to


def test_nothing_is_removed_within_the_budget(kept: Kept) -> None:
    kept.deploy()
    kept.environment("of nobody")
    jobs = {kept.job(number, 30).id for number in range(3)}

    keep(kept, used(kept)).check_room()

    assert jobs == kept.left("jobs")
    assert {"1", "of nobody"} == kept.left("environments")


def test_what_nothing_needs_goes_before_any_job(kept: Kept) -> None:
    kept.deploy()
    kept.environment("of nobody")
    job = kept.job(1, 30)

    keep(kept, used(kept) - 1)

    assert {job.id} == kept.left("jobs")
    assert {"1"} == kept.left("environments")


def test_the_jobs_that_ended_first_go_and_no_more_of_them_than_needed(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    kept.deploy()
    jobs = [kept.job(number, days_ago) for number, days_ago in enumerate((3, 9, 1, 5))]

    keep(kept, used(kept) - 150 * KB).check_room()

    assert {jobs[0].id, jobs[2].id} == kept.left("jobs")
    assert f"job {jobs[1].id} was removed with its results" in caplog.text
    assert "removed the 2 jobs that ended first (2" in caplog.text
    assert {"1"} == kept.left("environments")


def test_a_version_that_went_with_its_last_job_takes_its_project_along(kept: Kept) -> None:
    kept.deploy(content="old")
    kept.job(1, 30)
    kept.deploy(content="new")

    keep(kept, used(kept) - 50 * KB)

    assert set() == kept.left("jobs")
    assert {"new"} == kept.left("projects")


def test_a_file_that_a_later_job_shares_makes_no_room(kept: Kept) -> None:
    kept.deploy()
    first, rerun, third = (kept.job(number, days_ago=9 - number) for number in range(3))
    os.link(kept.data / "jobs" / first.id / "file", kept.data / "jobs" / rerun.id / "payload")

    keep(kept, used(kept) - 150 * KB)

    assert {third.id} == kept.left("jobs")


def test_a_file_that_is_shared_after_it_was_measured_still_counts_once(kept: Kept) -> None:
    kept.deploy()
    first, rerun = kept.job(1, 30), kept.job(2, 1)
    limit = used(kept) + 50 * KB
    kept_to = budget(kept, limit)
    asyncio.run(kept_to.look())
    kept.job(3, None, 1)
    os.link(kept.data / "jobs" / first.id / "file", kept.data / "jobs" / f"{3:016x}" / "payload")

    asyncio.run(kept_to.look())

    assert {first.id, rerun.id, f"{3:016x}"} == kept.left("jobs")


def test_environments_go_last_and_those_not_used_for_longest_first(kept: Kept) -> None:
    for number in range(1, 4):
        kept.environment(str(number), used_at_ns=NOW_NS - number)
        kept.deploy(f"api-{number}", str(number))
    kept.job(1, 30)

    keep(kept, used(kept) - 250 * KB)

    assert set() == kept.left("jobs")
    assert {"1"} == kept.left("environments")


def test_jobs_in_progress_and_those_held_stay_and_new_work_is_refused(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    kept.deploy()
    jobs = [kept.job(1, None), kept.job(2, 30)]
    kept.held.add(jobs[1].id)

    kept_to = keep(kept, 10 * KB)

    assert {job.id for job in jobs} == kept.left("jobs")
    assert {"1"} == kept.left("environments")
    with pytest.raises(StorageFull, match=r"more than its budget of 10\.0 kB, and nothing in it can be removed"):
        kept_to.check_room()
    assert "no new work is taken" in caplog.text


def test_new_work_is_taken_again_when_there_is_room(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.deploy()
    job = kept.job(1, 30)
    kept.held.add(job.id)
    kept_to = keep(kept, used(kept) - 150 * KB)
    with pytest.raises(StorageFull):
        kept_to.check_room()

    kept.held.clear()
    asyncio.run(kept_to.look())

    kept_to.check_room()
    assert set() == kept.left("jobs")
    assert "has room again" in caplog.text


def test_more_jobs_than_a_slice_holds_are_removed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    kept.deploy()
    jobs = [kept.job(number, days_ago=30 - number) for number in range(7)]
    kept.held.update(job.id for job in jobs[:3])

    keep(kept, used(kept) - 350 * KB)

    assert {job.id for job in jobs[:3]} == kept.left("jobs")


def test_what_has_ended_is_measured_once(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    monkeypatch.setattr(module, "measure", lambda path: (measured.append(path.name), measure(path))[1])
    kept.deploy()
    ended, running = kept.job(1, 30), kept.job(2, None)
    kept_to = budget(kept, 10**9)

    asyncio.run(kept_to.look())
    first = set(measured)
    measured.clear()
    asyncio.run(kept_to.look())

    assert {ended.id, running.id, "1"} <= first
    assert running.id in measured
    assert {ended.id, "1"}.isdisjoint(measured)
