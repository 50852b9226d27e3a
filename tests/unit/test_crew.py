"""How the workers of a job are counted, and what is said of those that wait for a place."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.domain.job import JobStatus
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Engine, Needs, WorkerOrder
from cortex.operator.run.crew import Crew
from cortex.operator.run.workers import Phase
from cortex.storage.pages import write_lease
from samples import JOB, SETUP

MINUTE_NS = 60 * 10**9


class SmallEngine(Engine):
    """An engine with as many places as the test says; who gets one keeps it."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.ordered: list[str] = []
        self.stopped: list[str] = []

    def start(self, order: WorkerOrder) -> None:
        self.ordered.append(order.worker)

    def stop(self, worker: str, *, at_once: bool) -> None:
        self.stopped.append(worker)

    def has_place(self, worker: str) -> bool:
        return worker in self.ordered[: self.places]

    def shortage(self, needs: Needs) -> str:
        return f"each needs {needs.millicores}"


def crew_of(workers: int, engine: Engine, folder: Path, *, places: int = 9) -> Crew:
    job = replace(JOB, id="67160ace060e3bfa", workers=workers, status=JobStatus.RUNNING)
    crew = Crew(job=job, folder=JobFolder(folder), engine=engine)
    crew.folder.workers.mkdir(parents=True)
    setup = replace(SETUP, places=places, program=replace(SETUP.program, needs=Needs(millicores=1000)))
    crew.equip(setup, now_ns=0)
    return crew


def waiting(crew: Crew, *, now_ns: int) -> tuple[int, int]:
    counts = crew.roll_call(now_ns=now_ns).counts
    return counts["pending"], counts["stalled"]


def test_who_waits_is_pending_and_after_ten_minutes_stalled(tmp_path: Path) -> None:
    crew = crew_of(4, SmallEngine(places=1), tmp_path)
    crew.order(3, now_ns=0)
    crew.order(1, now_ns=MINUTE_NS)

    assert (3, 0) == waiting(crew, now_ns=10 * MINUTE_NS - 1)
    assert (1, 2) == waiting(crew, now_ns=10 * MINUTE_NS)
    assert (0, 3) == waiting(crew, now_ns=11 * MINUTE_NS)
    assert 1 == crew.roll_call(now_ns=0).counts["initializing"]


@pytest.mark.parametrize(
    ("expected", "workers", "places"),
    [
        ("3 of 4 workers wait for compute: each needs 1000", 4, 1),
        ("1 of 4 workers waits for compute: each needs 1000", 4, 3),
        (None, 4, 4),
    ],
)
def test_a_shortage_is_told_while_somebody_waits(
    expected: str | None, workers: int, places: int, tmp_path: Path
) -> None:
    crew = crew_of(workers, SmallEngine(places), tmp_path)
    crew.order(workers, now_ns=0)

    assert expected == crew.roll_call(now_ns=0).shortage


def test_those_that_the_machine_could_never_hold_wait_without_an_order(tmp_path: Path) -> None:
    crew = crew_of(1000, SmallEngine(places=2), tmp_path, places=2)
    crew.order(crew.wanted, now_ns=0)

    assert 2 == len(crew.views)
    assert (998, 0) == waiting(crew, now_ns=0)
    assert (0, 998) == waiting(crew, now_ns=10 * MINUTE_NS)
    crew.release(crew.views, at_once=False)
    assert (0, 0) == waiting(crew, now_ns=10 * MINUTE_NS)


def test_counting_workers_takes_no_longer_however_many_are_asked_for(tmp_path: Path) -> None:
    workers = 10**18  # a list of them would not fit into any memory
    crew = crew_of(workers, SmallEngine(places=2), tmp_path, places=2)

    assert (workers - 2, 0) == waiting(crew, now_ns=0)


def test_nobody_waits_for_a_place_before_the_environment_is_ready(tmp_path: Path) -> None:
    crew = crew_of(4, SmallEngine(places=0), tmp_path)
    crew.setup = None

    assert (4, 0) == waiting(crew, now_ns=60 * MINUTE_NS)
    assert crew.roll_call(now_ns=0).shortage is None


def test_a_worker_that_is_let_go_before_it_runs_has_neither_succeeded_nor_failed(tmp_path: Path) -> None:
    engine = SmallEngine(places=1)
    crew = crew_of(2, engine, tmp_path)
    crew.order(2, now_ns=0)
    runs, waits = engine.ordered
    crew.views[runs].pid, crew.views[runs].phase = 7, Phase.READY
    crew.roster.changed(runs)

    crew.release(crew.views, at_once=False)
    while_ending = crew.roll_call(now_ns=0).counts
    for worker in (runs, waits):
        crew.lose(worker)
    ended = crew.roll_call(now_ns=0).counts

    assert [runs, waits] == engine.stopped
    assert while_ending == ended
    assert {"pending": 0, "initializing": 0, "running": 0, "succeeded": 1, "failed": 0, "stalled": 0} == ended


def test_only_the_pages_of_workers_that_did_something_are_kept(tmp_path: Path) -> None:
    crew = crew_of(3, SmallEngine(places=1), tmp_path)
    crew.order(3, now_ns=0)
    worked, *_ = crew.views
    write_lease(crew.folder, worked, token=1, first=0, limit=1)

    for worker in list(crew.views):
        crew.lose(worker)

    assert [crew.folder.page(worked)] == list(crew.folder.workers.iterdir())


def test_a_worker_that_reads_its_setup_while_the_next_operator_writes_it_reads_it_whole(tmp_path: Path):
    folder = JobFolder(tmp_path)
    SETUP.write(folder)

    with folder.setup.open() as reader:
        replace(SETUP, config={"a": 1}).write(folder)
        read = json.load(reader)

    assert {} == read["config"]
    assert {"a": 1} == json.loads(folder.setup.read_text())["config"]
