"""Who is fed: those that wait, and nobody looks at the others, however many there are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cortex.domain.lease import Lease
from cortex.operator.run.feeder import Feeder
from cortex.operator.run.reclaim import Reclaim
from cortex.operator.run.workers import Phase, WorkerView
from job_story import Peer


class LookedAt(dict[str, WorkerView]):
    """Workers, and who of them was looked at."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.names.append(name)
        return super().get(name, default)


@dataclass
class Queue:
    """A dispatch of batches that are leased one by one, or in pairs to those that hoard."""

    queued: int = 0
    is_done: bool = False
    held: dict[str, Lease] = field(default_factory=dict)
    taken_back: list[str] = field(default_factory=list)

    def held_by(self, worker: str) -> Lease | None:
        return self.held.get(worker)

    def lease(self, worker: str, *, most_bytes: int | None = None) -> Lease:
        self.queued -= 1
        self.held[worker] = lease = Lease(token=1, worker=worker, segment=0, first=0, end=2)
        return lease

    def unstarted(self, most: int) -> list[Lease]:
        return [lease for lease in self.held.values() if lease.count > 1][:most]

    def take_back(self, lease: Lease) -> None:
        self.taken_back.append(lease.worker)


class Story:
    """Workers a1, a2, ... with a live predictor, and a queue."""

    def __init__(self, workers: int) -> None:
        self.dispatch = Queue()
        self.peers = {f"a{number}": Peer() for number in range(1, workers + 1)}
        views = {name: WorkerView(phase=Phase.READY, connection=peer, pid=1) for name, peer in self.peers.items()}
        self.views = LookedAt(views)
        self.later: list[Callable[[], None]] = []
        self.shortened: list[str] = []
        self.may_lease = True
        self.reclaim = Reclaim(
            attempts=self,  # type: ignore[arg-type]
            workers=self.views,
            call_later=self.call_later,
            handle=lambda call: call(),
        )
        self.feeder = Feeder(self, self.views, self.reclaim, lambda: self.may_lease, self.call_later)  # type: ignore[arg-type]

    def call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        self.later.append(call)
        return lambda: None

    def frame(self, lease: Lease) -> dict[str, Any]:
        return {"type": "lease"}

    def shorten(self, lease: Lease, told_limit: int | None = None) -> None:
        self.shortened.append(lease.worker)
        self.dispatch.queued += 1
        self.dispatch.held[lease.worker] = Lease(token=1, worker=lease.worker, segment=0, first=0, end=1)

    def offer(self, *workers: str) -> None:
        for worker in workers:
            self.feeder.offer(worker)
        self.feeder.feed()

    @property
    def fed(self) -> list[str]:
        return [name for name, peer in self.peers.items() if peer.heard]


def test_only_who_was_offered_is_looked_at() -> None:
    story = Story(workers=5000)
    story.dispatch.queued = 1

    story.offer("a4000")

    assert ["a4000"] == story.fed
    assert {"a4000"} == set(story.views.names)


def test_who_found_nothing_is_fed_first_when_there_is_something() -> None:
    story = Story(workers=3)
    story.offer("a2")
    story.offer("a3")

    story.dispatch.queued = 1
    story.offer("a1")

    assert ["a2"] == story.fed


def test_who_can_not_be_told_or_holds_a_lease_or_is_gone_gets_nothing() -> None:
    story = Story(workers=3)
    story.dispatch.queued = 9
    story.views["a1"].connection = None
    story.dispatch.lease("a2")

    story.offer("a1", "a2", "gone", "a3")

    assert ["a3"] == story.fed
    assert [] == story.feeder.idle()


def test_who_was_offered_while_nothing_may_be_leased_is_fed_later() -> None:
    story = Story(workers=1)
    story.dispatch.queued, story.may_lease = 1, False
    story.offer("a1")
    before = list(story.fed)
    story.may_lease = True
    story.feeder.feed()

    assert ([], ["a1"]) == (before, story.fed)


def test_of_what_others_hoard_as_many_leases_are_cut_short_as_there_are_workers_without_any() -> None:
    story = Story(workers=6)
    for holder in ("a1", "a2", "a3", "a4"):
        story.dispatch.lease(holder)
    story.dispatch.queued = 0
    story.offer("a5", "a6")

    story.later.pop()()  # they have waited long enough
    taken_back = list(story.dispatch.taken_back)
    story.later.pop()()  # the holders have seen it

    assert ["a1", "a2"] == taken_back == story.shortened
    assert ["a5", "a6"] == story.fed


def test_nothing_is_taken_from_anybody_where_nobody_waits_any_more() -> None:
    story = Story(workers=2)
    story.dispatch.lease("a1")
    story.dispatch.queued = 0
    story.offer("a2")
    story.views["a2"].phase = Phase.RELEASED

    story.later.pop()()

    assert [] == story.dispatch.taken_back
    assert [] == story.later
