"""How long an operator that is about to end waits, and for what."""

from types import SimpleNamespace

import pytest

from cortex.domain.errors import OperatorStopping
from cortex.operator.upkeep.draining import Draining


class Story:
    """An operator that is told to end while some batches run."""

    def __init__(self, *, batches: int, in_hook: bool = False, requests: int = 0, grace_seconds: float = 10) -> None:
        self.now = 100.0
        self.leases = [object()] * batches
        self.run = SimpleNamespace(is_in_hook=in_hook, dispatch=SimpleNamespace(leases=lambda: self.leases))
        self.drained = 0
        jobs = SimpleNamespace(runs={"job": self.run}, drain=self.drain)
        self.serving = SimpleNamespace(in_flight=requests, drain=self.drain)
        self.draining = Draining(
            jobs=jobs, serving=self.serving, grace_seconds=grace_seconds, monotonic=lambda: self.now
        )

    def drain(self) -> None:
        self.drained += 1


def test_nothing_is_refused_or_described_before_it_begins() -> None:
    story = Story(batches=1)

    story.draining.refuse_if_begun()
    assert (None, 0) == (story.draining.describe(), story.drained)


def test_what_is_new_is_refused_from_then_on() -> None:
    story = Story(batches=0)

    story.draining.begin()

    assert story.drained == 2  # the jobs, and the realtime APIs
    with pytest.raises(OperatorStopping, match="about to stop"):
        story.draining.refuse_if_begun()


def test_it_waits_until_the_last_batch_has_ended() -> None:
    story = Story(batches=3)
    story.draining.begin()
    story.now += 4

    assert not story.draining.is_over
    assert {"batches": 3, "hooks": 0, "requests": 0, "seconds_left": 6.0} == story.draining.describe()
    assert str(story.draining.waiting) == "3 batches to end (at most 6s)"
    story.leases = []
    assert story.draining.is_over


def test_it_waits_until_the_last_request_is_answered() -> None:
    story = Story(batches=0, requests=2)
    story.draining.begin()

    assert not story.draining.is_over
    assert "2 requests to end (at most 10s)" == str(story.draining.waiting)
    story.serving.in_flight = 0
    assert story.draining.is_over


def test_it_waits_no_longer_than_the_grace_period() -> None:
    story = Story(batches=1)
    story.draining.begin()

    story.now += 9.9
    before = story.draining.is_over
    story.now += 0.2

    assert [False, True] == [before, story.draining.is_over]


@pytest.mark.parametrize(("grace_seconds", "patience"), [(0, 30), (10, 30), (600, 600)])
def test_a_hook_has_at_least_half_a_minute(grace_seconds: float, patience: float) -> None:
    story = Story(batches=0, in_hook=True, grace_seconds=grace_seconds)
    story.draining.begin()

    assert str(story.draining.waiting) == f"1 `on_job_complete` to end (at most {patience}s)"
    story.now += patience - 0.1
    before = story.draining.is_over
    story.now += 0.2
    assert [False, True] == [before, story.draining.is_over]


def test_it_can_be_cut_short() -> None:
    story = Story(batches=1, in_hook=True)
    story.draining.begin()

    story.draining.cut_short()

    assert story.draining.is_over
