"""What to do next with the replicas of an API: facts in, actions out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

LONGEST_BACKOFF_SECONDS = 60


class ReplicaState(StrEnum):
    """How far a replica is."""

    STARTING = "starting"  # none of its processes can take requests: they start, or start again
    READY = "ready"  # at least one takes requests
    DRAINING = "draining"  # it gets no more requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """What counts of one replica. One that was told to end, or is gone, is in no fleet."""

    replica: str
    is_updated: bool  # it is what new ones would be; other ones are to be replaced
    state: ReplicaState
    was_ready: bool  # now or at any time before
    requests: int  # that it has not answered


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStrategy:
    """How far an update may stray from the replicas that are requested; each is a number, or a share such as `25%`."""

    max_surge: int | str
    max_unavailable: int | str

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "UpdateStrategy":
        """Read it from the specification of a version, in which every default is filled in."""
        strategy = spec["update_strategy"]
        return cls(max_surge=strategy["max_surge"], max_unavailable=strategy["max_unavailable"])

    def surge(self, requested: int) -> int:
        """Give how many replicas there may be beyond those requested; shares are rounded up."""
        return math.ceil(_of(requested, self.max_surge))

    def unavailable(self, requested: int) -> int:
        """Give how many of those requested need not be ready; shares are rounded down.

        It is at least 1 where no more replicas may be started: else nothing could ever be replaced.
        """
        return max(math.floor(_of(requested, self.max_unavailable)), 0 if self.surge(requested) else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All that the plan depends on."""

    now_ns: int
    requested: int
    strategy: UpdateStrategy
    replicas: tuple[ReplicaView, ...]
    can_start: bool = True  # the environment is there
    failed_starts: int = 0  # of the present version, since one of its replicas became ready
    last_failed_at_ns: int | None = None

    @property
    def starts_again_at_ns(self) -> int | None:
        """When the next replica may be started after one has failed to; None if nothing has failed."""
        if self.failed_starts == 0 or self.last_failed_at_ns is None:
            return None
        return self.last_failed_at_ns + backoff_seconds(self.failed_starts) * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Start:
    """Start this many replicas of the present version."""

    count: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Give this replica no more requests, but let it answer those that it has."""

    replica: str


@dataclass(frozen=True, slots=True)
class End:
    """End this replica, which has no requests."""

    replica: str


Action = Start | Drain | End


def backoff_seconds(failures: int) -> int:
    """Give how long to wait after so many failures in a row, at least one: 1, 2, 4 and so on up to a minute."""
    return min(1 << min(failures - 1, 6), LONGEST_BACKOFF_SECONDS)


def plan(fleet: Fleet) -> list[Action]:
    """Plan what brings the fleet nearer to the requested number of updated replicas, all of them ready.

    To be asked again after every event, and at `starts_again_at_ns`; what is under way is not asked for again. Those
    that drain count for nothing, since what they are in may take as long as it likes. Of the others there are never
    more than requested and surge, and none is drained that leaves fewer ready than requested less unavailable. Old
    replicas answer until new ones are ready; old ones that never were ready are ended at once. As long as starts
    fail, one is tried at a time.
    """
    standing = _Standing.of(fleet)
    standing.dismiss_what_is_of_no_use()
    starts = standing.starts_wanted()
    standing.make_room(starts)
    starts = min(starts, standing.room)
    actions: list[Action] = [End(each.replica) for each in _draining(fleet) if each.requests == 0]
    actions += [Drain(each.replica) if each.requests else End(each.replica) for each in standing.dismissed]
    return [*actions, Start(starts)] if starts else actions


@dataclass(slots=True, kw_only=True)
class _Standing:
    """The replicas that are to stay, and those that are not; it is asked of those first that are missed least."""

    fleet: Fleet
    staying: list[ReplicaView]
    dismissed: list[ReplicaView]
    _limit: int  # of those that stay
    _least_ready: int

    @classmethod
    def of(cls, fleet: Fleet) -> "_Standing":
        live = [each for each in fleet.replicas if each.state is not ReplicaState.DRAINING]
        live.sort(key=lambda each: (each.is_updated, each.state is ReplicaState.READY, each.was_ready, each.requests))
        return cls(
            fleet=fleet,
            staying=live,
            dismissed=[],
            _limit=fleet.requested + fleet.strategy.surge(fleet.requested),
            _least_ready=fleet.requested - fleet.strategy.unavailable(fleet.requested),
        )

    @property
    def room(self) -> int:
        """How many may be started beside those that stay."""
        return self._limit - len(self.staying)

    def dismiss_what_is_of_no_use(self) -> None:
        """Dismiss old ones that others stand in for, and whatever is more than enough."""
        for each in self._old():
            if not each.was_ready:
                self._dismiss(each)
        updated = [each for each in self.staying if each.is_updated]
        for each in updated[: max(len(updated) - self.fleet.requested, 0)]:
            self._dismiss(each)
        for each in self._old():
            if self._ready_without(each) >= self.fleet.requested:
                self._dismiss(each)
        for each in list(self.staying):  # more than this is left only where fewer are requested than before
            if len(self.staying) > self._limit and each.state is not ReplicaState.READY:
                self._dismiss(each)

    def starts_wanted(self) -> int:
        """Say how many are missing that may be started now, room for them or not."""
        fleet = self.fleet
        again_at_ns = fleet.starts_again_at_ns
        if not fleet.can_start or (again_at_ns is not None and fleet.now_ns < again_at_ns):
            return 0
        updated = [each for each in self.staying if each.is_updated]
        missing = max(fleet.requested - len(updated), 0)
        if fleet.failed_starts == 0:
            return missing
        return 0 if any(not each.was_ready for each in updated) else min(missing, 1)

    def make_room(self, starts: int) -> None:
        """Dismiss old ones, as many as are in the way, where enough stay ready."""
        for each in self._old():
            if self.room >= starts:
                return
            if each.state is not ReplicaState.READY or self._ready_without(each) >= self._least_ready:
                self._dismiss(each)

    def _old(self) -> list[ReplicaView]:
        return [each for each in self.staying if not each.is_updated]

    def _ready_without(self, replica: ReplicaView) -> int:
        return sum(each.state is ReplicaState.READY for each in self.staying if each is not replica)

    def _dismiss(self, replica: ReplicaView) -> None:
        self.staying.remove(replica)
        self.dismissed.append(replica)


def _draining(fleet: Fleet) -> list[ReplicaView]:
    return [each for each in fleet.replicas if each.state is ReplicaState.DRAINING]


def _of(requested: int, limit: int | str) -> float:
    return requested * int(limit.removesuffix("%")) / 100 if isinstance(limit, str) else limit
