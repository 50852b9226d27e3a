"""An elastic job event by event: what it asks for, what it gives back, and how that is counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cortex.domain.job import Counts, JobStatus
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Engine, Needs, WorkerOrder
from cortex.operator.run.crew import Crew
from cortex.operator.run.workers import Phase
from cortex.operator.status import job_status
from cortex.storage.pages import read_page
from job_story import Peer, Story
from samples import JOB, SETUP

MINUTE_NS = 60 * 10**9


class Waiting:
    """What an engine is asked, and says, about the places of one elastic job; the test says who has one."""

    def __init__(self, story: Story) -> None:
        self.keeps: int | None = None
        self.leasts: list[int] = []
        story.engine.may_keep = self.may_keep  # type: ignore[method-assign]
        story.engine.has_place = lambda worker: worker in self.placed  # type: ignore[method-assign]
        self.placed: set[str] = set()

    def may_keep(self, job_id: str, *, least: int) -> int | None:
        self.leasts.append(least)
        return self.keeps


def at_work(story: Story, count: int) -> tuple[Waiting, dict[str, Peer]]:
    """Let so many of the workers that were ordered get ready, each in a lease."""
    waiting, peers = Waiting(story), {}
    for worker in story.engine.ordered[:count]:
        waiting.placed.add(worker)
        story.started(worker)
        peers[worker] = story.ready(worker, has_hook=False)
    return waiting, peers


def look(story: Story) -> None:
    """Let the moment come at which a job looks whether others wait."""
    calls, story.later = story.later, []
    for call in calls:
        call()


def released(peers: dict[str, Peer]) -> list[str]:
    return [worker for worker, peer in peers.items() if "finish" in peer.said]


@pytest.fixture
def story_of(tmp_path: Path) -> Callable[..., Story]:
    return lambda batches, least, most: Story(tmp_path, batches=batches, workers=most, workers_min=least)


def test_as_many_as_may_be_are_ordered_and_no_more_than_there_are_batches(story_of: Callable[..., Story]) -> None:
    assert 3 == len(story_of(3, 1, 8).engine.ordered)


def test_a_job_with_many_batches_orders_its_most(story_of: Callable[..., Story]) -> None:
    assert 8 == len(story_of(100, 1, 8).engine.ordered)


def test_what_others_wait_for_is_given_back_by_whoever_has_ended_its_lease_first(
    story_of: Callable[..., Story],
) -> None:
    story = story_of(100, 1, 4)
    waiting, peers = at_work(story, 4)
    first, _, third, _ = peers

    waiting.keeps = 3
    look(story)
    before = released(peers)
    story.finish_lease(third, peers[third])
    story.finish_lease(first, peers[first])
    look(story)  # the one that was ordered instead waits, and holds no place
    story.finish_lease(first, peers[first])

    assert [] == before
    assert [third] == released(peers)
    assert "lease" == peers[first].said[-1]
    assert {third: False} == story.engine.stopped
    assert {1} == {*waiting.leasts}


def test_those_in_a_lease_begin_nothing_more_of_it_when_places_are_asked_back(story_of: Callable[..., Story]) -> None:
    story = story_of(1000, 1, 2)
    waiting, peers = at_work(story, 2)
    for worker, peer in peers.items():
        story.finish_lease(worker, peer, seconds=0.001)  # so that the next one is longer
    leases = [peer.heard[-1] for peer in peers.values()]
    assert min(lease["end"] - lease["first"] for lease in leases) > 1

    waiting.keeps = 1
    look(story)

    limits = [read_page(story.folder, worker).limit for worker in peers]
    assert [lease["first"] for lease in leases] == limits


def test_those_that_do_nothing_yet_go_first_and_at_once(story_of: Callable[..., Story]) -> None:
    story = story_of(100, 1, 4)
    waiting, peers = at_work(story, 2)
    for worker in story.engine.ordered[2:]:
        waiting.placed.add(worker)
        story.started(worker)

    waiting.keeps = 1
    look(story)

    assert dict.fromkeys(story.engine.ordered[2:4], True) == story.engine.stopped
    assert [] == released(peers)


def test_what_was_given_back_is_ordered_again_and_nobody_has_failed(story_of: Callable[..., Story]) -> None:
    story = story_of(100, 1, 2)
    waiting, peers = at_work(story, 2)
    waiting.keeps = 1
    look(story)
    worker = next(iter(peers))
    story.finish_lease(worker, peers[worker])
    story.leave(worker)

    counts = story.run.roll_call().counts

    assert 3 == len(story.engine.ordered)
    assert (1, 0, 1, 0) == tuple(counts[name] for name in ("running", "failed", "succeeded", "pending"))
    assert "1 worker is given back: others wait for compute\n" in story.folder.log.read_text()


def test_at_the_end_the_least_is_what_there_are_batches_for_and_who_waits_is_withdrawn(
    story_of: Callable[..., Story],
) -> None:
    story = story_of(4, 3, 4)
    waiting, peers = at_work(story, 3)
    waits = story.engine.ordered[3]
    first, second, _ = peers
    story.finish_lease(first, peers[first])  # and gets the last one
    story.finish_lease(second, peers[second])

    look(story)

    assert {waits: True} == story.engine.stopped
    assert 2 == waiting.leasts[-1]


def test_a_paused_job_is_asked_for_nothing(story_of: Callable[..., Story]) -> None:
    story = story_of(100, 1, 2)
    waiting, _ = at_work(story, 2)
    waiting.keeps = 1
    waiting.leasts.clear()

    story.run.pause()
    look(story)

    assert [] == waiting.leasts


def test_a_job_that_is_not_elastic_asks_and_looks_at_nothing(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=100, workers=2)
    waiting, _ = at_work(story, 2)
    waiting.keeps = 1

    look(story)

    assert [] == waiting.leasts
    assert {} == story.engine.stopped


@pytest.mark.parametrize(("status", "failed"), [(0, 0), (1, 1)])
def test_a_worker_that_the_earlier_operator_has_let_go_has_not_failed(
    story_of: Callable[..., Story], status: int, failed: int
) -> None:
    story = story_of(100, 1, 2)
    waiting, peers = at_work(story, 2)
    waiting.keeps = 1
    look(story)
    worker, other = peers
    story.finish_lease(worker, peers[worker])

    story.operator()
    story.started(worker)
    story.started(other)
    story.leave(worker, status)

    assert failed == story.run.roll_call().counts["failed"]
    assert ("exited with code" in story.folder.log.read_text()) == bool(failed)


# How they are counted


class SomePlaces(Engine):
    """An engine with as many places as the test says."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.ordered: list[str] = []

    def start(self, order: WorkerOrder) -> None:
        self.ordered.append(order.worker)

    def has_place(self, worker: str) -> bool:
        return worker in self.ordered[: self.places]

    def shortage(self, needs: Needs) -> str:
        return "there is no room"


def crew_of(least: int, most: int, folder: Path, *, placed: int, places: int = 9) -> Crew:
    job = replace(JOB, id="67160ace060e3bfa", workers=most, workers_min=least, status=JobStatus.RUNNING)
    crew = Crew(job=job, folder=JobFolder(folder), engine=SomePlaces(placed))
    crew.folder.workers.mkdir(parents=True)
    crew.equip(replace(SETUP, places=places), now_ns=0)
    crew.order(crew.wanted, now_ns=0)
    return crew


@pytest.mark.parametrize(
    ("expected", "shortage", "least", "most", "placed", "places"),
    [
        (0, None, 2, 8, 2, 9),
        (0, None, 2, 8, 5, 9),
        (1, "1 of 2 workers waits for compute: there is no room", 2, 8, 1, 9),
        (3, "3 of 3 workers wait for compute: there is no room", 3, 8, 0, 9),
        (4, "4 of 6 workers wait for compute: there is no room", 6, 8, 2, 2),  # the machine never has room for them
        (3, "3 of 6 workers wait for compute: there is no room", 6, 8, 3, 4),
    ],
)
def test_only_those_below_the_least_are_said_to_wait(
    expected: int, shortage: str | None, least: int, most: int, placed: int, places: int, tmp_path: Path
) -> None:
    crew = crew_of(least, most, tmp_path, placed=placed, places=places)

    called = crew.roll_call(now_ns=9 * MINUTE_NS)
    later = crew.roll_call(now_ns=11 * MINUTE_NS)

    assert (expected, 0) == (called.counts["pending"], called.counts["stalled"])
    assert (0, expected) == (later.counts["pending"], later.counts["stalled"])
    assert shortage == called.shortage


def test_before_the_environment_is_ready_the_least_is_waited_for(tmp_path: Path) -> None:
    crew = crew_of(2, 8, tmp_path, placed=0)
    for worker in list(crew.views):
        crew.lose(worker)
    crew.setup = None

    assert 2 == crew.roll_call(now_ns=0).counts["pending"]


def test_the_status_says_the_least_the_most_and_how_many_work_now(tmp_path: Path) -> None:
    crew = crew_of(2, 8, tmp_path, placed=1)
    worker = next(iter(crew.views))
    crew.views[worker].phase = Phase.READY
    crew.roster.changed(worker)
    elastic = replace(crew.job, started_at_ns=1)

    said = job_status(elastic, counts=Counts(), work_done=(0, 0.0), workers=crew.roll_call(now_ns=0))
    ended = job_status(elastic, counts=Counts(), work_done=(0, 0.0), workers=None)
    fixed = job_status(JOB, counts=Counts(), work_done=(0, 0.0), workers=crew.roll_call(now_ns=0))

    names = ("workers", "workers_min", "workers_now")
    assert [8, 2, 1] == [said[name] for name in names]
    assert [8, 2, None] == [ended.get(name) for name in names]
    assert [1, None, None] == [fixed.get(name) for name in names]
