"""Who has taken too long, by a clock that goes on while it is looked."""

import itertools
from typing import Any

from cortex.serving.calls import Answer, Incoming
from cortex.serving.line import Line
from cortex.serving.load import InFlight
from cortex.serving.timekeeper import Timekeeper

LIMIT_NS = 10**9


class Replicas:
    """Notes what the client had been answered when its process was parted with."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.seen: list[list[int]] = []

    def condemn(self, _: str, *, is_idle_else: bool) -> None:
        assert is_idle_else
        self.seen.append([answer.status for answer in self.answers])


def test_who_waits_for_a_process_is_answered_before_that_is_parted_with() -> None:
    clock = itertools.count()
    answers: list[Answer] = []
    line = Line(now_ns=clock.__next__, load=InFlight(0))
    line.join("a", 1, lambda *_: None)
    line.enter(Incoming(query=b"", headers=(), content_type=None, body=b""), answers.append)
    replicas: Any = Replicas(answers)
    looks: list[Any] = []
    timekeeper = Timekeeper(
        api_name="api",
        line=line,
        replicas=replicas,
        now_ns=lambda: next(clock),
        call_later=lambda _, look: looks.append(look) or (lambda: None),
    )
    timekeeper.allow(LIMIT_NS / 1e9)

    for instant in range(LIMIT_NS - 20, LIMIT_NS + 20):
        clock = itertools.count(instant)
        line.now_ns = clock.__next__
        timekeeper.look()

    assert replicas.seen
    assert [[504]] * len(replicas.seen) == replicas.seen
