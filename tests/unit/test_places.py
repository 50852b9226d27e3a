"""Places on one machine: who gets one, who waits, and that the machine is never promised twice."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cortex.engines.engine import Needs
from cortex.engines.places import Place, Places

GIB = 2**30


def machine(*, cores: int = 2, mem_bytes: int = 4 * GIB, gpus: int = 0, most_workers: int = 256) -> Places:
    devices = [f"GPU-{number}" for number in range(gpus)]
    return Places(millicores=cores * 1000, mem_bytes=mem_bytes, devices=devices, most_workers=most_workers)


def place_all(places: Places) -> list[str]:
    placed = []
    while place := places.place_next():
        placed.append(place.worker)
    return placed


CORE = Needs(millicores=1000)


def test_workers_are_placed_while_there_is_room() -> None:
    places = machine()
    for worker in ("a1", "a2", "a3"):
        places.order(worker, "a", CORE)

    assert ["a1", "a2"] == place_all(places)
    assert [True, False] == [places.has_place("a2"), places.has_place("a3")]
    places.release("a1")
    assert ["a3"] == place_all(places)


def test_tenths_of_a_core_add_up_exactly() -> None:
    places = machine(cores=1)
    for number in range(11):
        places.order(str(number), "a", Needs(millicores=100))

    assert 10 == len(place_all(places))


def test_the_next_place_is_for_the_job_with_the_fewest_then_for_the_oldest_order() -> None:
    places = machine(cores=3)
    for number in range(1000):
        places.order(f"a{number}", "a", CORE)
    place_all(places)
    for worker, job in (("b1", "b"), ("c1", "c"), ("b2", "b"), ("c2", "c")):
        places.order(worker, job, CORE)

    turns = []
    for worker in ("a0", "a1", "a2"):
        places.release(worker)
        turns += place_all(places)

    assert ["b1", "c1", "a3"] == turns


def test_what_the_first_in_line_waits_for_is_kept_from_those_behind_it() -> None:
    places = machine(gpus=1)
    places.order("a1", "a", CORE)
    place_all(places)
    places.order("large", "b", Needs(millicores=2000))
    places.order("small", "c", CORE)
    places.order("gpu", "d", Needs(gpus=1))

    before = place_all(places)
    places.release("a1")

    assert ["gpu"] == before  # it takes nothing that the first in line needs
    assert ["large"] == place_all(places)


def test_nothing_is_kept_for_one_that_has_no_room_beside_replicas() -> None:
    places = machine()
    places.order("replica", "api", CORE, lasts=True)
    place_all(places)
    places.order("large", "a", Needs(millicores=2000))
    places.order("small", "b", CORE)

    assert ["small"] == place_all(places)
    places.release("small")
    places.release("replica")
    assert ["large"] == place_all(places)


def test_what_the_first_in_line_waits_for_is_kept_where_it_has_room_beside_replicas() -> None:
    places = machine(cores=3)
    places.adopt(Place(worker="replica", job_id="api", needs=CORE, lasts=True))
    places.order("a1", "a", CORE)
    place_all(places)
    places.order("large", "b", Needs(millicores=2000))
    places.order("small", "c", CORE)

    assert [] == place_all(places)
    places.release("a1")
    assert ["large"] == place_all(places)


def test_gpus_are_given_one_by_one_and_come_back() -> None:
    places = machine(gpus=3)
    places.order("a", "a", Needs(gpus=2))
    places.order("b", "b", Needs(gpus=2))
    first = places.place_next()
    waiting = places.place_next()
    places.release("a")
    second = places.place_next()

    assert first is not None
    assert second is not None
    assert ("GPU-0", "GPU-1") == first.devices
    assert waiting is None
    assert ("GPU-0", "GPU-1") == second.devices


def test_workers_of_an_earlier_operator_count_even_where_there_is_no_room_for_them() -> None:
    places = machine(cores=1, gpus=2)
    places.order("new", "b", Needs(millicores=500, gpus=1))
    for worker, device in (("old1", "GPU-1"), ("old2", "GPU-7")):
        needs = Needs(millicores=1000, gpus=1)
        places.adopt(Place(worker=worker, job_id="a", needs=needs, devices=(device,)))

    assert [] == place_all(places)
    places.release("old1")
    assert [] == place_all(places)
    places.release("old2")
    place = places.place_next()
    assert place is not None
    assert ("GPU-0",) == place.devices


def test_a_place_is_given_back_once() -> None:
    places = machine(cores=1)
    places.order("a", "a", CORE)
    places.order("b", "b", CORE)
    place_all(places)

    for _ in range(2):
        places.release("a")

    assert ["b"] == place_all(places)
    places.release("a")
    places.order("c", "c", CORE)
    assert [] == place_all(places)


def test_who_is_withdrawn_gets_no_place() -> None:
    places = machine(cores=1)
    for worker in ("a", "b", "c"):
        places.order(worker, worker, CORE)
    place_all(places)

    places.release("b")
    places.release("a")

    assert ["c"] == place_all(places)


@pytest.mark.parametrize(
    ("expected", "needs"),
    [
        ("each needs 1 cpu, and 1.5 of the machine's 2 are taken", Needs(millicores=1000)),
        ("each needs 0.6 cpu, and 1.5 of the machine's 2 are taken", Needs(millicores=600)),
        ("each needs 2Gi mem, and 3Gi of the machine's 4Gi are taken", Needs(millicores=100, mem_bytes=2 * GIB)),
        ("each needs 2 gpu, and 1 of the machine's 2 is taken", Needs(gpus=2)),
        ("what is free is kept for a worker that is before them in line", Needs(millicores=500)),
    ],
)
def test_what_is_short_is_said_in_the_users_words(expected: str, needs: Needs) -> None:
    places = machine(gpus=2)
    places.adopt(Place(worker="w", job_id="a", needs=Needs(millicores=1500, mem_bytes=3 * GIB, gpus=1), devices=("x",)))

    assert expected == places.shortage(needs)


def test_workers_that_reserve_nothing_are_not_any_number() -> None:
    places = machine(most_workers=3)
    for number in range(5):
        places.order(str(number), "a", Needs())

    assert 3 == len(place_all(places))
    assert "3 workers run already, and the machine runs no more at once" == places.shortage(Needs())


def test_a_worker_that_is_behind_its_like_or_has_no_room_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    places = machine(cores=1)
    place_first, looks = Places._place_first_that_fits, []
    monkeypatch.setattr(Places, "_place_first_that_fits", lambda self: looks.append(1) or place_first(self))

    for job in "abcd":
        for number in range(100):
            places.order(f"{job}{number}", job, CORE)
            place_all(places)

    assert 2 == len(looks)  # `a0` is placed, `a1` is not, and nobody else has room


class Machine(RuleBasedStateMachine):
    """Workers of a few jobs come and go in any order; what holds is checked after each step."""

    @initialize(
        cores=st.integers(1, 4),
        gpus=st.integers(0, 3),
        gib=st.integers(1, 4),
        most=st.integers(1, 6),
        shares=st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=4, max_size=4),
    )
    def begin(self, cores: int, gpus: int, gib: int, most: int, shares: list[tuple[int, int, int]]) -> None:
        self.places = machine(cores=cores, gpus=gpus, mem_bytes=gib * GIB, most_workers=most)
        self.largest = Needs(millicores=cores * 1000, mem_bytes=gib * GIB, gpus=gpus)
        self.waiting: dict[str, tuple[str, Needs]] = {}  # in the order in which they came
        self.placed: dict[str, Place] = {}
        self.needs = {
            job: Needs(millicores=cores * 250 * cpu, mem_bytes=gib * GIB // 4 * mem, gpus=gpus * gpu // 4)
            for job, (cpu, mem, gpu) in zip("abcd", shares, strict=True)
        }
        self.turns = 0

    @rule(job=st.sampled_from("abcd"))
    def order(self, job: str) -> None:
        self.turns += 1
        worker, needs = f"{job}{self.turns}", self.needs[job]  # all workers of a job need the same
        self.waiting[worker] = (job, needs)
        self.places.order(worker, job, needs)

    @rule()
    def fill(self) -> None:
        while place := self.places.place_next():
            job, needs = self.waiting.pop(place.worker)
            assert (job, needs) == (place.job_id, place.needs)
            self.placed[place.worker] = place

    @precondition(lambda self: self.placed)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.placed)))
        del self.placed[worker]
        self.places.release(worker)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[worker]
        self.places.release(worker)

    @precondition(lambda self: self.waiting)
    @rule(late=st.lists(st.sampled_from("abcd"), max_size=6))
    def whoever_comes_meanwhile_the_first_in_line_waits_for_those_before_it_only(self, late: list[str]) -> None:
        first, (job, _) = next(iter(self.waiting.items()))
        if job in {place.job_id for place in self.placed.values()}:
            return  # its job has had its turn
        for worker in sorted(self.placed):
            for newcomer in late:
                self.order(newcomer)
            self.fill()
            if self.placed.pop(worker, None):
                self.places.release(worker)
        self.fill()

        assert first in self.placed

    @invariant()
    def the_machine_is_never_promised_twice(self) -> None:
        needs = [place.needs for place in self.placed.values()]
        devices = [device for place in self.placed.values() for device in place.devices]

        assert sum(each.millicores for each in needs) <= self.largest.millicores
        assert sum(each.mem_bytes for each in needs) <= self.largest.mem_bytes
        assert len(self.placed) <= self.places.most_workers
        assert len(set(devices)) == len(devices)
        assert {*devices} <= {*self.places.devices}
        assert [len(place.devices) for place in self.placed.values()] == [each.gpus for each in needs]
        assert {*self.placed} == {worker for worker in [*self.placed, *self.waiting] if self.places.has_place(worker)}

    @invariant()
    def nobody_waits_beside_an_empty_machine(self) -> None:
        if not self.placed:
            self.fill()
            assert not self.waiting or self.placed


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestEveryStory = Machine.TestCase


def test_a_worker_that_is_adopted_again_is_counted_once() -> None:
    places = machine(cores=2)
    place = Place(worker="old", job_id="a", needs=CORE, devices=())
    for worker in ("new1", "new2"):
        places.order(worker, "b", CORE)

    places.adopt(place)
    places.adopt(place)

    assert ["new1"] == place_all(places)
    places.release("old")
    assert ["new2"] == place_all(places)


def test_what_an_api_cannot_do_without_comes_before_the_workers_of_jobs() -> None:
    places = machine(cores=1)
    for number in range(3):
        places.order(f"job-{number}", "job", CORE)
    assert ["job-0"] == place_all(places)
    places.order("another-0", "another", CORE)
    places.order("replica-0", "api", CORE, lasts=True, comes_first=True)

    places.release("job-0")

    assert ["replica-0"] == place_all(places)
