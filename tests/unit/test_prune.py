"""What `cortex prune` removes, what it never touches, and that it says what is free then."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from cortex.domain.retention import KeepJobs
from cortex.operator.upkeep.prune import Kind, Prune, Removed, Wanted
from cortex.storage.usage import bytes_on_disk, measure
from keeping import KB, NOW_NS, Kept

WEEK = Wanted(jobs=KeepJobs(age=timedelta(days=7)))
ALL = Wanted(jobs=KeepJobs(age=timedelta(0)), all_environments=True)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "data")


def prune(kept: Kept, wanted: Wanted, *, is_dry_run: bool = False) -> dict[Kind, Removed]:
    return {one.kind: one for one in asyncio.run(kept.prune.prune(wanted, is_dry_run=is_dry_run))}


def used(kept: Kept) -> int:
    return bytes_on_disk([measure(kept.data)])


def test_jobs_that_ended_long_ago_are_removed_and_no_others(kept: Kept) -> None:
    kept.deploy()
    jobs = [kept.job(number, days_ago) for number, days_ago in enumerate((9, 8, 6, None), 1)]

    told = prune(kept, WEEK)

    assert {jobs[2].id, jobs[3].id} == kept.left("jobs")
    assert 2 == told[Kind.JOBS].count


def test_so_many_jobs_of_each_api_are_kept(kept: Kept) -> None:
    versions = [kept.deploy("a"), kept.deploy("b")]
    jobs = [kept.job(number, days_ago=number, version=versions[number % 2]) for number in range(1, 7)]
    running = kept.job(9, None, version=versions[0])

    prune(kept, Wanted(jobs=KeepJobs(count=1)))

    assert {jobs[0].id, jobs[1].id, running.id} == kept.left("jobs")


def test_what_is_said_before_is_what_is_removed_then_and_what_is_free(kept: Kept) -> None:
    kept.deploy(content="old")
    first = kept.job(1, 30, 300 * KB)
    kept.deploy(content="new")
    kept.job(2, 1)
    rerun = kept.job(3, 9)
    os.link(kept.data / "jobs" / first.id / "file", kept.data / "jobs" / rerun.id / "payload")
    kept.upload(days_ago=2)
    kept.model("of nobody", "s3://bucket/model.onnx")
    before = used(kept)

    said = prune(kept, WEEK, is_dry_run=True)
    between = used(kept)
    told = prune(kept, WEEK)

    assert said == told
    expected = {Kind.JOBS: 2, Kind.PROJECTS: 1, Kind.UPLOADS: 1, Kind.MODELS: 1, Kind.ENVIRONMENTS: 1, Kind.PACKAGES: 0}
    assert expected == {kind: one.count for kind, one in told.items()}
    assert before == between
    assert before - used(kept) == sum(one.bytes for one in told.values())
    assert set() == kept.left("uploads") == kept.left("incoming") == kept.left("models")
    assert {"new"} == kept.left("projects") == kept.left("environments")


def test_a_file_that_a_later_job_shares_is_not_counted_as_free(kept: Kept) -> None:
    kept.deploy()
    first, rerun = kept.job(1, 30, 300 * KB), kept.job(2, 1, 1)
    os.link(kept.data / "jobs" / first.id / "file", kept.data / "jobs" / rerun.id / "payload")

    told = prune(kept, WEEK)

    assert told[Kind.JOBS].bytes < 300 * KB
    assert 300 * KB == (kept.data / "jobs" / rerun.id / "payload").stat().st_size


def test_a_job_that_somebody_holds_stays(kept: Kept) -> None:
    kept.deploy()
    job = kept.job(1, 30)
    kept.held.add(job.id)

    told = prune(kept, ALL)

    assert {job.id} == kept.left("jobs")
    assert 0 == told[Kind.JOBS].count


def test_what_is_held_after_it_was_found_stays_and_is_not_told(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.deploy()
    job = kept.job(1, 30)
    meanwhile(monkeypatch, lambda: kept.held.add(job.id))

    told = prune(kept, WEEK)

    assert {job.id} == kept.left("jobs")
    assert 0 == told[Kind.JOBS].count


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something between the search and the removal."""
    find = Prune.find

    async def find_and_act(self: Prune, wanted: Wanted) -> object:
        found = await find(self, wanted)
        act()
        return found

    monkeypatch.setattr(Prune, "find", find_and_act)


def test_environments_that_a_version_needs_are_removed_on_request_only(kept: Kept) -> None:
    kept.deploy()
    kept.environment("left over")

    first = prune(kept, WEEK)
    between = kept.left("environments")
    second = prune(kept, ALL)

    assert (1, {"1"}) == (first[Kind.ENVIRONMENTS].count, between)
    assert (1, set()) == (second[Kind.ENVIRONMENTS].count, kept.left("environments"))


def test_the_environment_of_a_job_in_progress_stays(kept: Kept) -> None:
    kept.deploy(content="old")
    kept.job(1, None)
    kept.deploy(content="new")

    prune(kept, ALL)

    assert {"old"} == kept.left("environments")
    assert {"old", "new"} == kept.left("projects")


def test_an_environment_that_a_process_runs_from_stays(kept: Kept) -> None:
    python = kept.environment("of nobody")

    with subprocess.Popen([python, "-c", "read line"], stdin=subprocess.PIPE):
        prune(kept, ALL)
        while_it_runs = kept.left("environments")
    prune(kept, ALL)

    assert {"of nobody"} == while_it_runs
    assert set() == kept.left("environments")


def test_an_environment_that_is_asked_for_after_it_was_found_stays(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = kept.environment("1").parents[2] / "ready"
    meanwhile(monkeypatch, lambda: os.utime(ready, ns=(NOW_NS + 1, NOW_NS + 1)))

    told = prune(kept, ALL)

    assert {"1"} == kept.left("environments")
    assert 0 == told[Kind.ENVIRONMENTS].count


def test_downloaded_packages_are_counted_with_the_environments_that_they_are_in(kept: Kept) -> None:
    environment = kept.environment("1", 1).parents[1]
    (kept.data / "uv-cache").mkdir()
    (kept.data / "uv-cache" / "package").write_bytes(b"x" * 500 * KB)
    os.link(kept.data / "uv-cache" / "package", environment / "package")
    before = used(kept)

    told = prune(kept, ALL)

    assert told[Kind.ENVIRONMENTS].bytes < 500 * KB <= told[Kind.PACKAGES].bytes
    assert not (kept.data / "uv-cache").exists()
    assert before - used(kept) == sum(one.bytes for one in told.values())


def test_an_upload_that_a_client_may_go_on_with_stays(kept: Kept) -> None:
    kept.upload(days_ago=0.9)

    told = prune(kept, ALL)

    assert 0 == told[Kind.UPLOADS].count
    assert 1 == len(kept.left("incoming"))


MODEL = "s3://bucket/model.onnx"


def test_of_a_model_that_a_version_names_the_content_that_was_asked_for_last_stays(kept: Kept) -> None:
    kept.deploy(model=MODEL)
    kept.model("old", MODEL, used_at_ns=NOW_NS - 1)
    kept.model("new", MODEL)
    kept.model("of another", "s3://bucket/another.onnx")

    told = prune(kept, WEEK)

    assert {"new"} == kept.left("models")
    assert 2 == told[Kind.MODELS].count


def test_the_models_of_versions_are_removed_on_request_only_but_not_those_of_jobs_in_progress(kept: Kept) -> None:
    version = kept.deploy(model=MODEL)
    kept.deploy("another", "2", model="s3://bucket/another.onnx")
    kept.job(1, None, version=version)
    kept.model("of the job", MODEL)
    kept.model("of nobody now", "s3://bucket/another.onnx")

    prune(kept, WEEK)
    between = kept.left("models")
    prune(kept, ALL)

    assert {"of the job", "of nobody now"} == between
    assert {"of the job"} == kept.left("models")


@pytest.mark.parametrize("folder", ["jobs/0000000000000001", "apis/iris/version"])
def test_a_model_that_processes_were_started_with_stays(kept: Kept, folder: str) -> None:
    kept.deploy(model=MODEL)
    kept.job(1, None)
    old = kept.model("in use", MODEL, used_at_ns=NOW_NS - 1)
    kept.model("new", MODEL)
    (kept.data / folder).mkdir(parents=True, exist_ok=True)
    (kept.data / folder / "setup.json").write_text(json.dumps({"models": [{"path": str(old)}, {"path": "/elsewhere"}]}))

    prune(kept, ALL)

    assert {"in use", "new"} == kept.left("models")


def test_a_model_that_is_asked_for_after_it_was_found_stays(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    about = kept.model("1", MODEL).parents[1] / "model.json"
    meanwhile(monkeypatch, lambda: os.utime(about, ns=(NOW_NS + 1, NOW_NS + 1)))

    told = prune(kept, ALL)

    assert {"1"} == kept.left("models")
    assert 0 == told[Kind.MODELS].count


def test_no_model_is_removed_while_one_is_looked_up(kept: Kept) -> None:
    kept.deploy()
    kept.model("1", MODEL)
    kept.is_fetching = True

    told = prune(kept, ALL)

    assert {"1"} == kept.left("models")
    assert 0 == told[Kind.MODELS].count
