"""What happens to the replicas of an API: examples, and random fleets in which anything may fail at any time."""

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cortex.configuration import read_configuration
from cortex.serving.rollout import (
    Action,
    Drain,
    End,
    Fleet,
    ReplicaState,
    ReplicaView,
    Start,
    UpdateStrategy,
    backoff_seconds,
    plan,
)

DEFAULT = UpdateStrategy(max_surge="25%", max_unavailable="25%")
NO_SURGE = UpdateStrategy(max_surge=0, max_unavailable=1)
SECOND_NS = 1_000_000_000

STARTING, READY, DRAINING = ReplicaState.STARTING, ReplicaState.READY, ReplicaState.DRAINING


def new(name: str, state: ReplicaState = READY, *, requests: int = 0, was_ready: bool | None = None) -> ReplicaView:
    """Give a replica that is as new ones would be."""
    was_ready = state is not STARTING if was_ready is None else was_ready
    return ReplicaView(replica=name, is_updated=True, state=state, was_ready=was_ready, requests=requests)


def old(name: str, state: ReplicaState = READY, *, requests: int = 0, was_ready: bool | None = None) -> ReplicaView:
    """Give one that is to be replaced."""
    return replace(new(name, state, requests=requests, was_ready=was_ready), is_updated=False)


def fleet(requested: int, *replicas: ReplicaView, strategy: UpdateStrategy = DEFAULT, failed: int = 0) -> Fleet:
    """Give a fleet; a start that failed did so just now."""
    return Fleet(
        now_ns=0,
        requested=requested,
        strategy=strategy,
        replicas=replicas,
        failed_starts=failed,
        last_failed_at_ns=0 if failed else None,
    )


@pytest.mark.parametrize(
    ("expected", "known"),
    [
        # As many as requested are started, and no more.
        ([Start(3)], fleet(3)),
        ([Start(1)], fleet(3, new("a", STARTING), new("b"))),
        ([], fleet(2, new("a", STARTING), new("b"))),
        ([], fleet(0)),
        ([], replace(fleet(3), can_start=False)),
        # Scale down: those first that are not ready, then those with the fewest requests.
        ([End("a")], fleet(1, new("a", STARTING), new("b"))),
        ([Drain("b")], fleet(1, new("a", requests=3), new("b", requests=2))),
        ([End("b")], fleet(1, new("a", requests=1), new("b"))),
        ([End("b"), Drain("a")], fleet(0, new("a", requests=1), new("b"))),
        # Who drains answers what it has, then ends; meanwhile it counts for nothing.
        ([], fleet(1, new("a", DRAINING, requests=1), new("b"))),
        ([End("a")], fleet(1, new("a", DRAINING), new("b"))),
        ([Start(1)], fleet(1, new("a", DRAINING, requests=1))),
        # A rolling update: the old one answers until the new one is ready.
        ([Start(1)], fleet(1, old("a"))),
        ([], fleet(1, old("a", requests=1), new("b", STARTING))),
        ([Drain("a")], fleet(1, old("a", requests=1), new("b"))),
        ([End("a"), Start(2)], fleet(4, old("a"), old("b"), old("c"), old("d"))),
        ([], fleet(4, old("b"), old("c"), old("d"), new("e", STARTING), new("f", STARTING))),
        ([End("b"), Start(1)], fleet(4, old("b"), old("c"), old("d"), new("e"), new("f", STARTING))),
        # Without surge the old one makes room first.
        ([End("a"), Start(1)], fleet(1, old("a"), strategy=NO_SURGE)),
        ([Drain("a"), Start(1)], fleet(2, old("a", requests=1), old("b", requests=4), strategy=NO_SURGE)),
        (
            [End("a"), End("b"), Start(2)],
            fleet(2, old("a", STARTING, was_ready=True), old("b", STARTING, was_ready=True), strategy=NO_SURGE),
        ),
        # What never was ready is not waited for; what was and starts again may be needed yet.
        ([End("a"), Start(1)], fleet(1, old("a", STARTING))),
        ([Start(1)], fleet(1, old("a", STARTING, was_ready=True))),
        ([End("a")], fleet(1, old("a", STARTING, was_ready=True), new("b"))),
        # While starts fail, they are tried one at a time, after a while, and nobody makes room for them before.
        ([], fleet(3, old("a"), old("b"), old("c"), failed=1)),
        ([], fleet(1, old("a"), strategy=NO_SURGE, failed=1)),
        ([Start(1)], replace(fleet(3, old("a"), old("b"), old("c"), failed=1), now_ns=1 * SECOND_NS)),
        ([], replace(fleet(3, failed=3), now_ns=4 * SECOND_NS - 1)),
        ([Start(1)], replace(fleet(3, failed=3), now_ns=4 * SECOND_NS)),
        ([], replace(fleet(3, new("a", STARTING), failed=3), now_ns=4 * SECOND_NS)),
        # Fewer are requested in the middle of an update.
        (
            [End("a"), End("b"), End("x")],
            fleet(1, old("a"), old("b"), old("c"), new("x", STARTING), new("y", STARTING)),
        ),
    ],
)
def test_what_is_done_next(expected: list[Action], known: Fleet) -> None:
    planned = plan(known)

    assert sorted(map(repr, expected)) == sorted(map(repr, planned))


def test_shares_of_surge_are_rounded_up_and_those_of_unavailable_down() -> None:
    limits = [(DEFAULT.surge(requested), DEFAULT.unavailable(requested)) for requested in (1, 3, 4, 5, 8)]

    assert [(1, 0), (1, 0), (1, 1), (2, 1), (2, 2)] == limits
    assert (2, 3) == (
        UpdateStrategy(max_surge=2, max_unavailable=3).surge(9),
        UpdateStrategy(max_surge=2, max_unavailable=3).unavailable(9),
    )


def test_an_update_goes_on_even_where_the_shares_are_rounded_to_nothing() -> None:
    strategy = UpdateStrategy(max_surge="0%", max_unavailable="25%")

    assert (0, 1) == (strategy.surge(1), strategy.unavailable(1))


def test_the_wait_after_failed_starts_doubles_up_to_a_minute() -> None:
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [backoff_seconds(failures) for failures in range(1, 9)]
    assert 60 == backoff_seconds(10_000)


def test_the_default_is_that_of_the_configuration() -> None:
    (api,) = read_configuration("[{name: iris, predictor: {type: python, path: iris.py}}]", "cortex.yaml")

    assert DEFAULT == UpdateStrategy.from_spec(api.model_dump(mode="json"))


@dataclass(slots=True, kw_only=True)
class Replica:
    """A replica of the story."""

    version: int
    state: ReplicaState = STARTING
    was_ready: bool = False
    requests: int = 0

    @property
    def is_live(self) -> bool:
        return self.state is not DRAINING


LIMITS = st.integers(0, 3) | st.sampled_from(["0%", "10%", "25%", "50%", "100%"])
STRATEGIES = st.builds(UpdateStrategy, max_surge=LIMITS, max_unavailable=LIMITS)


class Rollout(RuleBasedStateMachine):
    """An API to which anything happens; after each event what is planned is done, and the promises are checked."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas: dict[str, Replica] = {}
        self.version = 0
        self.now_ns = 0
        self.can_start = True
        self.failed_starts = 0
        self.last_failed_at_ns: int | None = None
        self.started = 0

    @initialize(requested=st.integers(0, 8), strategy=STRATEGIES)
    def begin(self, requested: int, strategy: UpdateStrategy) -> None:
        self.requested, self.strategy = requested, strategy
        self.go_on()

    # What happens

    @rule(requested=st.integers(0, 8))
    def another_number_is_requested(self, requested: int) -> None:
        self.requested = requested
        self.go_on()

    @rule(strategy=STRATEGIES)
    def another_strategy_is_deployed(self, strategy: UpdateStrategy) -> None:
        self.strategy = strategy
        self.go_on()

    @rule(version=st.integers(0, 3))
    def a_version_is_deployed(self, version: int) -> None:
        if version != self.version:
            self.version, self.failed_starts, self.last_failed_at_ns = version, 0, None
        self.go_on()

    @rule(can_start=st.booleans())
    def the_environment_is_there_or_not(self, can_start: bool) -> None:
        self.can_start = can_start
        self.go_on()

    @rule(seconds=st.sampled_from([0.5, 1, 5, 60]))
    def time_passes(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND_NS)
        self.go_on()

    @precondition(lambda self: self.those(STARTING))
    @rule(data=st.data())
    def one_becomes_ready(self, data: st.DataObject) -> None:
        self.make_ready(data.draw(st.sampled_from(self.those(STARTING))))
        self.go_on()

    @precondition(lambda self: self.those(STARTING))
    @rule(data=st.data())
    def one_fails_to_start(self, data: st.DataObject) -> None:
        replica = self.replicas.pop(data.draw(st.sampled_from(self.those(STARTING))))
        if replica.version == self.version:
            self.failed_starts, self.last_failed_at_ns = self.failed_starts + 1, self.now_ns
        self.go_on()

    @precondition(lambda self: self.those(READY))
    @rule(data=st.data())
    def the_processes_of_one_die_and_start_again(self, data: st.DataObject) -> None:
        replica = self.replicas[data.draw(st.sampled_from(self.those(READY)))]
        replica.state, replica.requests = STARTING, 0
        self.go_on()

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def one_is_lost(self, data: st.DataObject) -> None:
        del self.replicas[data.draw(st.sampled_from(list(self.replicas)))]
        self.go_on()

    @precondition(lambda self: self.those(READY))
    @rule(data=st.data(), count=st.integers(1, 4))
    def requests_come(self, data: st.DataObject, count: int) -> None:
        self.replicas[data.draw(st.sampled_from(self.those(READY)))].requests += count
        self.go_on()

    @precondition(lambda self: any(each.requests for each in self.replicas.values()))
    @rule(data=st.data())
    def a_request_is_answered(self, data: st.DataObject) -> None:
        busy = [name for name, each in self.replicas.items() if each.requests]
        self.replicas[data.draw(st.sampled_from(busy))].requests -= 1
        self.go_on()

    # What is done about it

    def those(self, *states: ReplicaState) -> list[str]:
        return [name for name, each in self.replicas.items() if each.state in states]

    def make_ready(self, name: str) -> None:
        replica = self.replicas[name]
        replica.state, replica.was_ready = READY, True
        if replica.version == self.version:
            self.failed_starts, self.last_failed_at_ns = 0, None

    def fleet(self) -> Fleet:
        return Fleet(
            now_ns=self.now_ns,
            requested=self.requested,
            strategy=self.strategy,
            can_start=self.can_start,
            failed_starts=self.failed_starts,
            last_failed_at_ns=self.last_failed_at_ns,
            replicas=tuple(
                ReplicaView(
                    replica=name,
                    is_updated=each.version == self.version,
                    state=each.state,
                    was_ready=each.was_ready,
                    requests=each.requests,
                )
                for name, each in self.replicas.items()
            ),
        )

    def go_on(self) -> None:
        """Do what is planned, and check what it keeps."""
        fleet, ready_before = self.fleet(), len(self.those(READY))
        actions = plan(fleet)
        named = Counter(action.replica for action in actions if not isinstance(action, Start))
        assert all(count == 1 for count in named.values())
        for action in actions:
            self.do(action)

        surge, unavailable = self.strategy.surge(self.requested), self.strategy.unavailable(self.requested)
        live = [each for each in self.replicas.values() if each.is_live]
        updated = [each for each in live if each.version == self.version]
        assert len(live) <= self.requested + surge
        assert len(updated) <= self.requested
        assert len(self.those(READY)) >= min(ready_before, self.requested - unavailable)
        assert not [each for each in live if each.version != self.version and not each.was_ready]
        assert [] == plan(self.fleet())  # what is under way is not asked for again

    def do(self, action: Action) -> None:
        match action:
            case Start(count):
                assert self.can_start
                assert count >= 1
                if self.failed_starts:
                    assert self.last_failed_at_ns is not None
                    assert self.now_ns >= self.last_failed_at_ns + backoff_seconds(self.failed_starts) * SECOND_NS
                    assert count == 1
                    assert not [name for name in self.those(STARTING) if self.is_first_try(name)]
                for _ in range(count):
                    self.started += 1
                    self.replicas[str(self.started)] = Replica(version=self.version)
            case Drain(name):
                assert self.replicas[name].is_live
                assert self.replicas[name].requests > 0
                self.replicas[name].state = DRAINING
            case End(name):
                assert 0 == self.replicas.pop(name).requests

    def is_first_try(self, name: str) -> bool:
        replica = self.replicas[name]
        return replica.version == self.version and not replica.was_ready

    # Once nothing fails any more

    def teardown(self) -> None:
        if not hasattr(self, "requested"):
            return
        self.can_start = True
        self.now_ns += 60 * SECOND_NS
        self.go_on()
        for _ in range(2 * len(self.replicas) + 2 * self.requested):  # each replaced, and each started, once
            updated = [name for name in self.those(STARTING) if self.replicas[name].version == self.version]
            for name in updated[:1]:  # old ones may never be ready again
                self.make_ready(name)
            self.go_on()
        live = [each for each in self.replicas.values() if each.is_live]
        assert [(self.version, READY)] * self.requested == [(each.version, each.state) for each in live]

        for replica in self.replicas.values():
            replica.requests = 0
        self.go_on()
        assert self.requested == len(self.replicas)


TestRollout = Rollout.TestCase
