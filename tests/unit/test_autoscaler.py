"""How many replicas an API should have: worked examples, and each rule said once more in other words."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.configuration import read_configuration
from cortex.configuration.autoscaling import TICK_SECONDS
from cortex.serving.autoscaler import AutoscalingPolicy, History, decide, recommend

DEFAULTS = AutoscalingPolicy(
    min_replicas=1,
    max_replicas=100,
    init_replicas=1,
    target_replica_concurrency=1.0,
    max_replica_concurrency=1024,
    window_seconds=60,
    downscale_stabilization_seconds=300,
    upscale_stabilization_seconds=60,
    max_downscale_factor=0.75,
    max_upscale_factor=1.5,
    downscale_tolerance=0.05,
    upscale_tolerance=0.05,
)
AT_ONCE = replace(DEFAULTS, downscale_stabilization_seconds=0, upscale_stabilization_seconds=0)
TO_ZERO = replace(AT_ONCE, min_replicas=0)


def tick_ns(number: int) -> int:
    return number * TICK_SECONDS * 1_000_000_000


def follow(policy: AutoscalingPolicy, replicas: int, loads: Sequence[float | None]) -> list[int]:
    """Give what is decided at each tick, by an autoscaler that begins with the first."""
    history, decided = History(), []
    for number, in_flight in enumerate(loads):
        replicas, history = decide(policy, history, now_ns=tick_ns(number), replicas=replicas, in_flight=in_flight)
        decided.append(replicas)
    return decided


@pytest.mark.parametrize(
    ("expected", "replicas", "in_flight", "changes"),
    [
        # As many as keep each at its target, rounded up.
        (4, 4, 4.0, {}),
        (5, 4, 4.3, {}),
        (3, 4, 2.9, {}),
        (2, 2, 7.5, {"target_replica_concurrency": 4.0}),
        (3, 2, 9.0, {"target_replica_concurrency": 4.0}),
        # Little more or less than there are for is no reason, and exactly the tolerance is one.
        (20, 20, 20.9, {}),
        (21, 20, 21.0, {}),
        (20, 20, 19.1, {}),
        (19, 20, 19.0, {}),
        (4, 4, 4.3, {"upscale_tolerance": 0.1}),
        (11, 20, 10.1, {"downscale_tolerance": 0.49, "max_downscale_factor": 0.0}),
        (20, 20, 10.3, {"downscale_tolerance": 0.49, "max_downscale_factor": 0.0}),
        # One step is a factor at most, rounded up.
        (15, 10, 40.0, {}),
        (8, 5, 40.0, {}),
        (40, 10, 40.0, {"max_upscale_factor": 10.0}),
        (75, 100, 1.0, {}),
        (8, 10, 1.0, {}),
        (6, 8, 1.0, {}),
        # A larger factor leaves more: it shrinks slower.
        (10, 20, 1.0, {"max_downscale_factor": 0.5}),
        (18, 20, 1.0, {"max_downscale_factor": 0.9}),
        (1, 20, 1.0, {"max_downscale_factor": 0.0}),
        # One more and one less are always a step.
        (2, 1, 40.0, {}),
        (11, 10, 40.0, {"max_upscale_factor": 1.01}),
        (1, 2, 0.1, {}),
        (9, 10, 1.0, {"max_downscale_factor": 0.99}),
        # What is a whole number on paper costs no further replica.
        (110, 100, 500.0, {"max_upscale_factor": 1.1, "max_replicas": 1000}),
        (6, 7, 4.2, {"target_replica_concurrency": 0.7}),
        (7, 100, 1.0, {"max_downscale_factor": 0.07}),
        # Never outside the bounds.
        (1, 1, 0.0, {}),
        (3, 4, 0.0, {"min_replicas": 3}),
        (12, 10, 40.0, {"max_replicas": 12}),
        (12, 30, 40.0, {"max_replicas": 12}),
        # To zero only if nothing at all was in flight, and from zero with one.
        (0, 1, 0.0, {"min_replicas": 0}),
        (1, 1, 1e-12, {"min_replicas": 0}),
        (1, 0, 0.01, {"min_replicas": 0}),
        (1, 0, 40.0, {"min_replicas": 0}),
        (0, 0, 0.0, {"min_replicas": 0}),
        (1, 2, 0.0, {"min_replicas": 0}),
    ],
)
def test_what_a_load_calls_for(expected: int, replicas: int, in_flight: float, changes: dict[str, float]) -> None:
    policy = replace(DEFAULTS, **changes)  # type: ignore[arg-type]

    assert expected == recommend(policy, replicas=replicas, in_flight=in_flight)
    without_periods = replace(policy, downscale_stabilization_seconds=0, upscale_stabilization_seconds=0)
    assert [expected] == follow(without_periods, replicas, [in_flight])


def test_it_grows_by_a_step_once_a_minute_has_called_for_it() -> None:
    assert [1] * 6 + [2] * 7 + [3] * 7 + [5] * 10 == follow(DEFAULTS, 1, [5.0] * 30)


def test_a_first_minute_is_waited_for_even_by_an_autoscaler_that_knows_nothing() -> None:
    loads = [None] * 3 + [5.0] * 4

    assert [1] * 6 + [2] == follow(DEFAULTS, 1, loads)


def test_a_short_peak_does_not_grow() -> None:
    loads = [1.0] * 10 + [9.0] * 5 + [1.0] * 10

    assert {1} == set(follow(DEFAULTS, 1, loads))


def test_it_shrinks_only_once_five_minutes_have_called_for_it() -> None:
    decided = follow(DEFAULTS, 8, [8.0] * 40 + [0.0] * 62)

    assert [8] * 70 == decided[:70]  # what was called for at the 40th tick counts until five minutes after
    assert [6, 6] == [decided[70], decided[100]]
    assert 5 == decided[101]


def test_a_short_dip_does_not_shrink() -> None:
    loads = [8.0] * 40 + [0.0] * 25 + [8.0] * 40

    assert {8} == set(follow(DEFAULTS, 8, loads))


def test_what_a_request_has_started_from_zero_is_not_ended_for_a_load_that_does_not_show_it_yet() -> None:
    for policy in (TO_ZERO, replace(TO_ZERO, downscale_stabilization_seconds=20)):
        asleep, history = decide(policy, History(), now_ns=tick_ns(0), replicas=0, in_flight=0.0)
        for number in range(1, 9):
            asleep, history = decide(policy, history, now_ns=tick_ns(number), replicas=asleep, in_flight=0.0)
        woken, history = decide(policy, history, now_ns=tick_ns(9), replicas=1, in_flight=0.0)
        kept, _ = decide(policy, history, now_ns=tick_ns(10), replicas=woken, in_flight=0.1)

        assert (0, 1, 1) == (asleep, woken, kept)


def test_it_goes_to_zero_only_when_nothing_was_in_flight_for_the_whole_period() -> None:
    decided = follow(replace(DEFAULTS, min_replicas=0), 1, [0.0] * 29 + [0.01] + [0.0] * 31)

    assert [1] * 60 + [0] == decided


def test_as_long_as_the_load_is_not_known_only_the_bounds_count() -> None:
    assert [2, 2] == follow(replace(DEFAULTS, min_replicas=2), 1, [None, None])
    assert [100] == follow(DEFAULTS, 130, [None])


def test_the_defaults_are_those_of_the_configuration() -> None:
    (api,) = read_configuration("[{name: iris, predictor: {type: python, path: iris.py}}]", "cortex.yaml")

    assert DEFAULTS == AutoscalingPolicy.from_spec(api.model_dump(mode="json"))


# Each rule, for any policy and any load

LOADS = st.one_of(st.just(0.0), st.floats(0.001, 300, allow_nan=False), st.integers(0, 60).map(float))
PERIODS = st.integers(0, 12).map(lambda ticks: float(ticks * TICK_SECONDS))


@st.composite
def policies(draw: st.DrawFn) -> AutoscalingPolicy:
    least, most = sorted((draw(st.integers(0, 12)), draw(st.integers(1, 40))))
    return AutoscalingPolicy(
        min_replicas=least,
        max_replicas=most,
        init_replicas=least,
        target_replica_concurrency=draw(st.sampled_from([0.5, 1.0, 3.0, 4.0, 16.0])),
        max_replica_concurrency=1024,
        window_seconds=60,
        downscale_stabilization_seconds=draw(PERIODS),
        upscale_stabilization_seconds=draw(PERIODS),
        max_downscale_factor=draw(st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9])),
        max_upscale_factor=draw(st.sampled_from([1.01, 1.25, 1.5, 2.0, 10.0])),
        downscale_tolerance=draw(st.sampled_from([0.0, 0.05, 0.25, 0.5])),
        upscale_tolerance=draw(st.sampled_from([0.0, 0.05, 0.25, 1.0])),
    )


@st.composite
def situations(draw: st.DrawFn) -> tuple[AutoscalingPolicy, int]:
    """Draw a policy, and a number of replicas that it allows."""
    policy = draw(policies())
    return policy, draw(st.integers(policy.min_replicas, policy.max_replicas))


@given(situations(), st.lists(st.none() | LOADS, max_size=40))
def test_a_decision_is_never_outside_the_bounds(
    situation: tuple[AutoscalingPolicy, int], loads: list[float | None]
) -> None:
    policy, replicas = situation

    assert all(policy.min_replicas <= decided <= policy.max_replicas for decided in follow(policy, replicas, loads))


@given(policies(), st.integers(0, 60), LOADS)
def test_replicas_outside_the_bounds_are_brought_inside_at_once(
    policy: AutoscalingPolicy, replicas: int, load: float
) -> None:
    decided = follow(policy, replicas, [load])[0]

    assert policy.min_replicas <= decided <= policy.max_replicas


@given(situations(), st.lists(LOADS, max_size=40))
def test_a_step_is_never_larger_than_its_factor_or_one(
    situation: tuple[AutoscalingPolicy, int], loads: list[float]
) -> None:
    policy, before = situation
    for after in follow(policy, before, loads):
        assert after - before <= max(1, math.ceil(before * policy.max_upscale_factor) - before)
        assert before - after <= max(1, before - math.ceil(before * policy.max_downscale_factor))
        before = after


@given(situations(), st.lists(LOADS, max_size=40))
def test_it_moves_only_where_all_that_a_period_called_for_lies(
    situation: tuple[AutoscalingPolicy, int], loads: list[float]
) -> None:
    policy, before = situation
    called_for: list[int] = []
    for number, after in enumerate(follow(policy, before, loads)):
        called_for.append(recommend(policy, replicas=before, in_flight=loads[number]))
        ticks_down = int(policy.downscale_stabilization_seconds // TICK_SECONDS)
        ticks_up = int(policy.upscale_stabilization_seconds // TICK_SECONDS)
        if after < before:
            assert number >= ticks_down
            assert all(each <= after for each in called_for[number - ticks_down :])
        if after > before:
            assert number >= ticks_up
            assert all(each >= after for each in called_for[number - ticks_up :])
        before = after


@given(situations(), st.data())
def test_a_load_within_the_tolerance_changes_nothing(
    situation: tuple[AutoscalingPolicy, int], data: st.DataObject
) -> None:
    policy, replicas = situation
    least = replicas * (1 - policy.downscale_tolerance)
    most = replicas * (1 + policy.upscale_tolerance)
    ideal = data.draw(st.floats(least, most, exclude_min=least < most, exclude_max=least < most))

    after = recommend(policy, replicas=replicas, in_flight=ideal * policy.target_replica_concurrency)

    is_rounded_away = math.isclose(ideal, least) or math.isclose(ideal, most)  # the product is not exact
    assert after == replicas or is_rounded_away


@given(situations(), LOADS, LOADS)
def test_more_load_never_calls_for_fewer(situation: tuple[AutoscalingPolicy, int], one: float, other: float) -> None:
    policy, replicas = situation
    less, more = sorted((one, other))

    assert recommend(policy, replicas=replicas, in_flight=less) <= recommend(policy, replicas=replicas, in_flight=more)


@given(situations(), LOADS)
def test_a_load_that_stays_is_served_by_as_many_as_it_needs(
    situation: tuple[AutoscalingPolicy, int], load: float
) -> None:
    policy, replicas = situation

    last = follow(policy, replicas, [load] * 40 * 13)[-1]  # a period for every step, the smallest are of one

    ideal = load / policy.target_replica_concurrency
    most_that_is_near = max(math.ceil(ideal), math.ceil(ideal / (1 - policy.downscale_tolerance)) - 1)
    least_that_is_near = min(math.ceil(ideal), math.floor(ideal / (1 + policy.upscale_tolerance)) + 1)
    assert policy.clamp(least_that_is_near) <= last <= policy.clamp(most_that_is_near)


@given(situations(), st.lists(LOADS, min_size=1, max_size=40))
def test_what_is_remembered_is_no_older_than_a_period(
    situation: tuple[AutoscalingPolicy, int], loads: list[float]
) -> None:
    policy, replicas = situation
    history = History()
    for number, load in enumerate(loads):
        replicas, history = decide(policy, history, now_ns=tick_ns(number), replicas=replicas, in_flight=load)

    longest = max(policy.downscale_stabilization_seconds, policy.upscale_stabilization_seconds)
    assert longest / TICK_SECONDS + 1 >= len(history.recommendations) >= 1
