"""Elastic jobs on one machine: who is asked to give places back, for whom, and that nobody takes turns for ever."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.engines.engine import Needs
from cortex.engines.places import Place, Places

CORE = Needs(millicores=1000)


def machine(*, cores: int = 4, gpus: int = 0, most_workers: int = 256) -> Places:
    devices = [f"GPU-{number}" for number in range(gpus)]
    return Places(millicores=cores * 1000, mem_bytes=0, devices=devices, most_workers=most_workers)


def place_all(places: Places) -> list[str]:
    placed = []
    while place := places.place_next():
        placed.append(place.worker)
    return placed


def order(places: Places, job: str, count: int, needs: Needs = CORE, *, least: int | None = None) -> list[str]:
    """Order workers of a job, elastic where it has a least; give those that got a place."""
    if least is not None:
        places.may_keep(job, least=least)
    for number in range(count):
        places.order(f"{job}{number}", job, needs)
    return place_all(places)


def test_an_elastic_job_keeps_all_while_nobody_waits() -> None:
    places = machine()
    order(places, "a", 9, least=1)

    assert places.may_keep("a", least=1) is None


@pytest.mark.parametrize(
    ("expected", "least", "waiting"), [(3, 1, 1), (2, 1, 2), (1, 1, 3), (1, 1, 9), (3, 3, 9), (None, 4, 9)]
)
def test_as_many_are_asked_back_as_wait_but_not_the_least(expected: int | None, least: int, waiting: int) -> None:
    places = machine()
    order(places, "a", 9, least=least)
    order(places, "b", waiting)

    assert expected == places.may_keep("a", least=least)


def test_what_is_given_back_goes_to_those_it_was_asked_for_and_not_to_who_gave_it() -> None:
    places = machine()
    order(places, "a", 9, least=1)
    order(places, "b", 2)

    places.release("a0")
    first = order(places, "a", 1, least=1)
    kept = places.may_keep("a", least=1)
    places.release("a1")

    assert ["b0"] == first
    assert 2 == kept
    assert ["b1"] == place_all(places)
    assert places.may_keep("a", least=1) is None


def test_a_worker_that_its_job_can_do_without_comes_after_those_of_jobs_with_more_workers() -> None:
    places = machine()
    order(places, "a", 1, least=1)
    order(places, "b", 9)
    order(places, "a", 3, least=1)

    places.release("b0")

    assert ["b3"] == place_all(places)


def test_nothing_is_asked_back_that_would_not_help() -> None:
    places = machine(gpus=1)
    order(places, "gpu", 1, Needs(gpus=1))
    order(places, "a", 4, least=1)
    order(places, "b", 1, Needs(millicores=500, gpus=1))
    order(places, "c", 1, Needs(millicores=4000))

    assert places.may_keep("a", least=1) is None


def test_nothing_is_asked_back_that_would_be_kept_for_another() -> None:
    places = machine()
    order(places, "b", 2)
    order(places, "a", 2, least=1)
    order(places, "large", 1, Needs(millicores=4000))
    order(places, "small", 1)

    assert places.may_keep("a", least=1) is None


def test_as_many_are_asked_back_as_make_room_for_one_that_needs_more() -> None:
    places = machine()
    order(places, "a", 4, least=1)
    order(places, "b", 1, Needs(millicores=2000))

    assert 2 == places.may_keep("a", least=1)
    places.release("a0")
    assert [] == order(places, "a", 1, least=1)  # what is free is for the other
    places.release("a1")
    assert ["b0"] == place_all(places)


def test_the_number_of_workers_is_shared_too() -> None:
    places = machine(most_workers=3)
    order(places, "a", 9, Needs(), least=1)
    order(places, "b", 1, Needs(gpus=0))

    assert 2 == places.may_keep("a", least=1)


def test_who_has_more_gives_first() -> None:
    places = machine(cores=7)
    order(places, "a", 2, least=1)
    order(places, "b", 9, least=1)
    places.order("c0", "c", CORE)

    assert [None, 4] == [places.may_keep(job, least=1) for job in "ab"]


def test_two_elastic_jobs_end_up_with_the_same_number() -> None:
    places = machine(cores=5)
    order(places, "a", 9, least=1)
    order(places, "b", 9, least=1)

    assert [3, None] == [places.may_keep(job, least=1) for job in "ab"]
    for worker in ("a0", "a1"):
        places.release(worker)
        place_all(places)
    assert [None, None] == [places.may_keep(job, least=1) for job in "ab"]


def test_the_workers_that_the_next_operator_finds_are_asked_back_too() -> None:
    places = machine()
    order(places, "b", 1)
    places.release("b0")
    for number in range(4):
        places.adopt(Place(worker=f"a{number}", job_id="a", needs=CORE))
    order(places, "b", 1)

    assert 3 == places.may_keep("a", least=2)


def test_a_least_that_becomes_smaller_at_the_end_of_a_job_is_heard() -> None:
    places = machine()
    order(places, "a", 4, least=4)
    order(places, "b", 9)

    assert places.may_keep("a", least=4) is None
    assert 2 == places.may_keep("a", least=2)


def test_of_jobs_that_are_over_nothing_is_remembered() -> None:
    places = machine()
    for number in range(100):
        order(places, f"job-{number}-", 1, least=1)
        places.release(f"job-{number}-0")

    assert len(places._least_of) <= 1


@dataclass
class Crew:
    """A job, or an API's replicas, as the operator has them."""

    needs: Needs
    wanted: int
    least: int | None
    lasts: bool
    placed: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)  # of those
    waiting: set[str] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    """Jobs come, grow, are asked for places back, give them back in their own time, and end."""

    def __init__(self) -> None:
        super().__init__()
        self.crews: dict[str, Crew] = {}
        self.count = 0

    @initialize(cores=st.integers(1, 8), gpus=st.integers(0, 2), most_workers=st.integers(2, 9))
    def begin(self, cores: int, gpus: int, most_workers: int) -> None:
        self.places = machine(cores=cores, gpus=gpus, most_workers=most_workers)

    @rule(
        needs=st.builds(Needs, millicores=st.sampled_from([0, 500, 1000, 3000]), gpus=st.sampled_from([0, 0, 0, 1])),
        wanted=st.integers(1, 6),
        least=st.none() | st.integers(1, 4),
        lasts=st.booleans(),
    )
    def come(self, needs: Needs, wanted: int, least: int | None, lasts: bool) -> None:
        self.count += 1
        lasts = lasts and least is None
        wanted = max(wanted, least or 1)
        self.crews[f"job{self.count}"] = Crew(needs, wanted, least, lasts)
        self.order_and_place()

    @precondition(lambda self: self.crews)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.crews)))
        for worker in [*self.crews[job].waiting, *self.crews[job].placed]:
            self.places.release(worker)
        del self.crews[job]
        self.place()
        self.order_and_place()

    @precondition(lambda self: any(crew.placed for crew in self.crews.values()))
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """A worker dies, or one that was asked back has ended what it was in."""
        placed = sorted((worker, job) for job, crew in self.crews.items() for worker in crew.placed)
        self.leave(*data.draw(st.sampled_from(placed)))

    @rule()
    def look(self) -> None:
        """All elastic jobs look whether others wait."""
        for job, crew in self.crews.items():
            if crew.least is None:
                continue
            keeps = self.places.may_keep(job, least=crew.least)
            if keeps is not None:
                assert crew.least <= keeps < len(crew.placed)
                staying = sorted(crew.placed - crew.leaving)
                crew.leaving |= set(staying[: max(0, len(staying) - keeps)])

    @rule()
    def settle(self) -> None:
        """Let all that is asked for come to pass: that comes to an end, and nobody waits for what is not needed."""
        given = 0
        while True:
            self.look()
            leaving = [(worker, job) for job, crew in self.crews.items() for worker in crew.leaving]
            if not leaving:
                break
            for worker, job in leaving:
                asked = self.places.may_keep(job, least=self.crews[job].least or 1)
                before = len(self.crews[job].placed)
                self.leave(worker, job)
                assert asked is None or len(self.crews[job].placed) < before  # it did not take the place again
                given += 1
            assert given <= 100
        self.nobody_waits_for_what_others_can_do_without()

    def leave(self, worker: str, job: str) -> None:
        crew = self.crews[job]
        crew.placed.discard(worker)
        crew.leaving.discard(worker)
        self.places.release(worker)
        self.order(job)  # as the operator does: it hears of the end before others are placed
        self.place()

    def order(self, job: str) -> None:
        crew = self.crews[job]
        if crew.least is not None:
            self.places.may_keep(job, least=crew.least)
        while len(crew.placed - crew.leaving) + len(crew.waiting) < crew.wanted:
            self.count += 1
            worker = f"{job}-{self.count}"
            crew.waiting.add(worker)
            self.places.order(worker, job, crew.needs, lasts=crew.lasts)

    def order_and_place(self) -> None:
        for job in self.crews:
            self.order(job)
        self.place()

    def place(self) -> None:
        while place := self.places.place_next():
            crew = self.crews[place.job_id]
            crew.waiting.remove(place.worker)
            crew.placed.add(place.worker)

    def nobody_waits_for_what_others_can_do_without(self) -> None:
        """Where a worker waits that its job needs, all that others have above their least would not make room."""
        firsts = [crew for crew in self.crews.values() if crew.waiting and len(crew.placed) < (crew.least or 99)]
        if len(firsts) != 1:
            return  # the one may wait for what is kept for the other
        (first,) = firsts
        spare: Counter[str] = Counter()
        for crew in self.crews.values():
            if crew is not first and crew.least is not None and len(crew.placed) > crew.least:
                count = len(crew.placed) - crew.least
                spare += Counter(cores=count * crew.needs.millicores, gpus=count * crew.needs.gpus, workers=count)
        taken = [(crew.needs, len(crew.placed)) for crew in self.crews.values()]
        free_cores = self.places.millicores - sum(needs.millicores * count for needs, count in taken)
        free_gpus = len(self.places.devices) - sum(needs.gpus * count for needs, count in taken)
        free_workers = self.places.most_workers - sum(count for _, count in taken)
        assert (
            (first.needs.millicores and free_cores + spare["cores"] < first.needs.millicores)
            or (first.needs.gpus and free_gpus + spare["gpus"] < first.needs.gpus)
            or free_workers + spare["workers"] < 1
        )

    @invariant()
    def no_job_has_more_than_it_wants(self) -> None:
        for crew in self.crews.values():
            assert len(crew.placed - crew.leaving) <= crew.wanted


Machine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestEveryStory = Machine.TestCase
