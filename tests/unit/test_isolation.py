"""What is tried next of a batch in which workers died or predict took too long."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.isolation import MAX_DEATHS, Death, DeathKind, Part, PlannedPart, plan

SIZES = st.integers(1, 300)


@st.composite
def roots(draw: st.DrawFn) -> list[Part]:
    """Draw what there is to do of a batch: all of it, or parts that lie apart or side by side."""
    edges = sorted(draw(st.sets(st.integers(0, 100), min_size=2, max_size=7)))
    parts = [Part(first, end) for first, end in pairwise(edges)]
    return draw(st.permutations(parts).map(lambda some: sorted(some[: max(1, len(some) - 1)])))


def account(part: Part, deaths: int = 0, timeouts: int = 0) -> Death:
    kind = DeathKind.DIED if deaths else DeathKind.TIMED_OUT
    return Death(batch=0, part=part, deaths=deaths, timeouts=timeouts, cause="was lost", kind=kind)


class Story:
    """A batch with items that kill their worker, or take too long, whenever they are in predict."""

    def __init__(self, size: int, killers: set[int], kind: DeathKind = DeathKind.DIED) -> None:
        self.roots = [Part(0, size)]
        self.killers = killers
        self.kind = kind
        self.accounts: dict[Part, Death] = {}

    def plan(self) -> list[PlannedPart]:
        return plan(self.roots, self.accounts.values(), may_split=self.kind is DeathKind.TIMED_OUT)

    def try_once(self) -> Part | None:
        """Try what is planned, the smallest first as workers do; give the part that was charged."""
        to_try = sorted((each.part for each in self.plan() if each.given_up is None), key=lambda part: part.size)
        for part in to_try:
            if any(part.first <= killer < part.end for killer in self.killers):
                self.charge(part)
                return part
        return None

    def charge(self, part: Part) -> None:
        before = self.accounts.get(part, account(part))
        is_timeout = self.kind is DeathKind.TIMED_OUT
        self.accounts[part] = account(part, before.deaths + (not is_timeout), before.timeouts + is_timeout)

    def tell(self) -> int:
        """Try until nothing is charged any more; give how many workers that took."""
        deaths = 0
        while self.try_once() is not None:
            deaths += 1
            assert deaths < 10_000
        return deaths

    @property
    def given_up(self) -> list[Part]:
        return [each.part for each in self.plan() if each.given_up is not None]


@given(st.data(), roots(), st.booleans())
def test_a_plan_covers_what_there_is_to_do_exactly_and_in_order(
    data: st.DataObject, roots: list[Part], may_split: bool
) -> None:
    accounts: dict[Part, Death] = {}
    for _ in range(data.draw(st.integers(0, 12))):
        part = data.draw(st.sampled_from(plan(roots, accounts.values(), may_split=may_split))).part
        deaths, timeouts = data.draw(st.sampled_from([(1, 0), (3, 0), (0, 1), (2, 1)]))
        accounts[part] = account(part, deaths, timeouts)

    planned = plan(roots, accounts.values(), may_split=may_split)

    items = [item for each in planned for item in range(*each.part)]
    assert [item for root in roots for item in range(*root)] == items
    assert all(any(root.contains(each.part) for root in roots) for each in planned)
    assert all(each.part.size == 1 for each in planned if each.given_up is not None)
    assert all(each.given_up in (None, accounts.get(each.part)) for each in planned)


@given(st.data(), SIZES)
def test_the_item_that_kills_is_given_up_and_no_other(data: st.DataObject, size: int) -> None:
    killer = data.draw(st.integers(0, size - 1))
    story = Story(size, {killer})

    deaths = story.tell()

    assert [Part(killer, killer + 1)] == story.given_up
    assert MAX_DEATHS <= deaths <= MAX_DEATHS + math.ceil(math.log2(size))


@given(st.data(), st.integers(2, 300))
def test_several_items_that_kill_are_given_up_and_no_others(data: st.DataObject, size: int) -> None:
    killers = data.draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=4))
    story = Story(size, killers)

    deaths = story.tell()

    assert [Part(killer, killer + 1) for killer in sorted(killers)] == story.given_up
    assert deaths <= MAX_DEATHS + len(killers) * math.ceil(math.log2(size))


@given(st.data(), SIZES)
def test_the_item_that_takes_too_long_is_given_up_when_it_has_done_so_alone(data: st.DataObject, size: int) -> None:
    slow = data.draw(st.integers(0, size - 1))
    story = Story(size, {slow}, DeathKind.TIMED_OUT)

    deaths = story.tell()

    assert [Part(slow, slow + 1)] == story.given_up
    assert deaths == len(story.accounts) <= 1 + math.ceil(math.log2(size))


def test_nothing_is_split_before_it_has_been_the_death_of_so_many() -> None:
    whole = Part(0, 8)

    plans = [plan([whole], [account(whole, deaths)], may_split=True) for deaths in range(MAX_DEATHS + 1)]

    assert [[whole]] * MAX_DEATHS + [list(whole.halves)] == [[each.part for each in planned] for planned in plans]


@pytest.mark.parametrize(("expected", "may_split"), [([Part(0, 3)], False), ([Part(0, 2), Part(2, 3)], True)])
def test_what_took_too_long_is_split_when_its_attempts_are_used_up(expected: list[Part], may_split: bool) -> None:
    planned = plan([Part(0, 3)], [account(Part(0, 3), timeouts=1)], may_split=may_split)

    assert expected == [each.part for each in planned]


def test_of_what_was_split_a_part_that_takes_too_long_is_split_at_once() -> None:
    accounts = [account(Part(0, 2), timeouts=1), account(Part(3, 4), timeouts=1)]

    planned = plan([Part(0, 4)], accounts, may_split=False)

    assert [Part(0, 1), Part(1, 2), Part(2, 3), Part(3, 4)] == [each.part for each in planned]
    assert [None, None, None, accounts[1]] == [each.given_up for each in planned]


def test_a_part_that_the_worker_split_itself_stays_split() -> None:
    planned = plan([Part(0, 8)], [account(Part(4, 6), deaths=1)], may_split=False)

    assert [Part(0, 4), Part(4, 5), Part(5, 6), Part(6, 8)] == [each.part for each in planned]


def test_an_item_that_has_died_alone_once_is_tried_again_unless_it_was_in_enough_deaths_before() -> None:
    item = account(Part(0, 1), deaths=1)

    alone = plan([Part(0, 2)], [item], may_split=False)
    after_others = plan([Part(0, 2)], [account(Part(0, 2), deaths=2), item], may_split=False)

    assert [None, None] == [each.given_up for each in alone]
    assert [item, None] == [each.given_up for each in after_others]


@given(st.integers(0, 50), st.integers(2, 100))
def test_the_first_half_is_no_smaller_and_nothing_lies_between(first: int, size: int) -> None:
    left, right = Part(first, first + size).halves

    assert (first, left.end, first + size) == (left.first, right.first, right.end)
    assert left.size - right.size in (0, 1)
