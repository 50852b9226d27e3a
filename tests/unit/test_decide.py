from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from cortex.domain.job import JobStatus
from cortex.operator.run.decide import (
    Action,
    End,
    Facts,
    GiveBack,
    ReleaseWorkers,
    StartHook,
    StartWorkers,
    Withdraw,
    decide,
)


def facts(*, starting: int = 0, ready: tuple[str, ...] = (), released: int = 0, **changes: Any) -> Facts:
    """Give the facts of a Job that runs and wants two Workers; those that are alive are starting, ready or released."""
    return Facts(
        **{
            "status": JobStatus.RUNNING,
            "can_start": True,
            "workers_wanted": 2,
            "starting": starting,
            "ready": len(ready),
            "first_ready": next(iter(ready), None),
            "live": starting + len(ready) + released,
            "unreleased": starting + len(ready),
            "all_ended": False,
            "has_hook": True if ready else None,
            "hook_was_started": False,
            "hook_is_over": False,
            "is_hopeless": False,
            **changes,
        }
    )


BOTH = ("a", "b")
NO_ENVIRONMENT = {"can_start": False}
ALL_ENDED = {"all_ended": True}
NO_HOOK = {"all_ended": True, "has_hook": False}
IN_HOOK = {"all_ended": True, "hook_was_started": True}
HOOK_IS_OVER = {"all_ended": True, "hook_was_started": True, "hook_is_over": True}
STOPPING = {"status": JobStatus.STOPPING}


@pytest.mark.parametrize(
    ("expected", "known"),
    [
        # Workers are started and replaced until there are as many as wanted.
        ([], facts(**NO_ENVIRONMENT)),
        ([StartWorkers(2)], facts()),
        ([StartWorkers(1)], facts(starting=1)),
        ([], facts(starting=2)),
        ([], facts(starting=1, ready=("a",))),
        ([], facts(ready=BOTH)),
        ([StartWorkers(1)], facts(ready=("b",))),
        ([StartWorkers(2)], facts(has_hook=True)),
        # An elastic one gives back what others wait for, and withdraws who could do nothing.
        ([GiveBack(1)], facts(ready=BOTH, surplus=1)),
        ([GiveBack(1), StartWorkers(1)], facts(ready=("a",), surplus=1)),
        ([GiveBack(1)], facts(ready=("a",), surplus=1, is_hopeless=True)),
        ([Withdraw(2)], facts(ready=BOTH, starting=2)),
        ([StartHook("a")], facts(ready=BOTH, surplus=1, **ALL_ENDED)),
        # Where no further Worker is worth a try, those that are ready go on alone.
        ([], facts(ready=("b",), is_hopeless=True)),
        ([], facts(starting=1, is_hopeless=True)),
        ([], facts(released=1, is_hopeless=True)),
        ([End()], facts(is_hopeless=True)),
        ([End()], facts(is_hopeless=True, **NO_ENVIRONMENT)),
        # The hook is started once, in a Worker that has a live predictor.
        ([StartHook("a")], facts(ready=BOTH, **ALL_ENDED)),
        ([StartHook("b")], facts(ready=("b",), **ALL_ENDED)),
        ([StartWorkers(1)], facts(has_hook=True, **ALL_ENDED)),
        ([StartWorkers(1)], facts(has_hook=None, **ALL_ENDED)),
        ([], facts(starting=1, **ALL_ENDED)),
        ([], facts(ready=BOTH, **IN_HOOK)),
        ([], facts(ready=("a",), released=1, **IN_HOOK)),
        ([End()], facts(has_hook=True, is_hopeless=True, **ALL_ENDED)),
        ([StartHook("a")], facts(ready=("a",), is_hopeless=True, **ALL_ENDED)),
        # When nothing is left to do, the Workers end, one of them last, and then the Job.
        ([ReleaseWorkers(keep="a")], facts(ready=BOTH, **NO_HOOK)),
        ([ReleaseWorkers(keep="a")], facts(ready=("a",), starting=1, **NO_HOOK)),
        ([], facts(ready=("a",), released=1, **NO_HOOK)),
        ([ReleaseWorkers()], facts(ready=("a",), **NO_HOOK)),
        ([ReleaseWorkers()], facts(starting=2, **NO_HOOK)),
        ([], facts(released=2, **NO_HOOK)),
        ([End()], facts(**NO_HOOK)),
        ([ReleaseWorkers()], facts(ready=("a",), **HOOK_IS_OVER)),
        ([], facts(released=1, **HOOK_IS_OVER)),
        ([End()], facts(**HOOK_IS_OVER)),
        # A stopped Job ends when its Workers are gone, whatever else is so.
        ([ReleaseWorkers()], facts(ready=BOTH, **STOPPING)),
        ([ReleaseWorkers()], facts(starting=1, **STOPPING, **NO_ENVIRONMENT)),
        ([ReleaseWorkers()], facts(ready=("a",), released=1, **STOPPING, **IN_HOOK)),
        ([], facts(released=2, **STOPPING)),
        ([End()], facts(**STOPPING)),
        ([End()], facts(**STOPPING, **NO_ENVIRONMENT)),
    ],
)
def test_what_is_done_next_follows_from_the_facts(expected: list[Action], known: Facts):
    assert expected == decide(known)


def _every_case() -> Iterator[Facts]:
    """Give all facts that can be; while the hook is under way, its Worker is alive."""
    for status, can_start, all_ended, has_hook, hopeless, wanted, hook, starting, ready, released in product(
        (JobStatus.RUNNING, JobStatus.STOPPING),
        (True, False),
        (True, False),
        (None, True, False),
        (True, False),
        (1, 3),
        ((False, False), (True, False), (True, True)),
        range(3),
        ((), ("a",), ("a", "b")),
        range(2),
    ):
        known = facts(
            status=status,
            can_start=can_start,
            workers_wanted=wanted,
            starting=starting,
            ready=ready,
            released=released,
            all_ended=all_ended,
            has_hook=has_hook,
            hook_was_started=hook[0],
            hook_is_over=hook[1],
            is_hopeless=hopeless,
        )
        if known.live or hook != (True, False):
            yield known


CASES = list(_every_case())


def has(kind: type, actions: list[Action]) -> bool:
    return any(isinstance(action, kind) for action in actions)


def test_the_hook_is_started_once_after_every_batch_in_a_ready_worker():
    for known in CASES:
        hooks = [action for action in decide(known) if isinstance(action, StartHook)]

        assert len(hooks) <= 1
        for hook in hooks:
            assert known.all_ended
            assert not known.hook_was_started
            assert not known.hook_is_over
            assert known.has_hook is not False
            assert known.status is JobStatus.RUNNING
            assert hook.worker == known.first_ready


def test_workers_are_started_only_for_something_to_do_and_never_more_than_wanted():
    for known in CASES:
        nothing_to_do = known.all_ended and (known.hook_is_over or known.hook_was_started or known.has_hook is False)
        for action in decide(known):
            if isinstance(action, StartWorkers):
                assert action.count > 0
                assert known.can_start
                assert not known.is_hopeless
                assert known.status is JobStatus.RUNNING
                assert not nothing_to_do
                assert action.count + known.starting + known.ready <= known.workers_wanted


def test_a_job_ends_only_when_nothing_of_it_is_alive():
    for known in CASES:
        actions = decide(known)

        assert not (has(End, actions) and known.live)
        assert not (has(ReleaseWorkers, actions) and not known.unreleased)
        assert len(actions) <= 1


def test_a_job_never_waits_for_nothing():
    for known in CASES:
        is_waiting_for_the_environment = not (known.can_start or known.is_hopeless)

        assert decide(known) or known.live or is_waiting_for_the_environment


def test_workers_that_have_nothing_left_to_do_are_all_released_in_the_end():
    for known in CASES:
        for action in decide(known):
            if isinstance(action, ReleaseWorkers) and action.keep is not None:
                assert action.keep == known.first_ready
                one_is_left = facts(
                    status=known.status,
                    ready=(action.keep,),
                    all_ended=True,
                    has_hook=False,
                    is_hopeless=known.is_hopeless,
                )
                assert decide(one_is_left) == [ReleaseWorkers()]


def test_a_batch_that_is_open_is_not_left_while_a_worker_could_run_it():
    for known in CASES:
        could_run = known.status is JobStatus.RUNNING and known.can_start and not known.is_hopeless
        if could_run and not known.all_ended:
            actions = decide(known)

            assert not has(End, actions)
            assert not has(ReleaseWorkers, actions)
            assert known.starting or known.ready or has(StartWorkers, actions)


def test_a_stopped_job_starts_nothing():
    for known in CASES:
        if known.status is JobStatus.STOPPING:
            actions = decide(known)

            assert not has(StartWorkers, actions)
            assert not has(StartHook, actions)
