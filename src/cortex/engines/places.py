"""Who of the Workers that were ordered gets a place on one machine, and who waits.

The promises:

- What the placed Workers need together is never more than the machine has, and no GPU is given to two of them.
- The next in line is a Worker of the Job with the fewest placed ones, the oldest order first; for it, everything that
  it needs is kept free from what others behind it would take. Workers of one Job need the same, so every Job gets
  its turn. Before all of them come those without which an API would be out of service. Nothing is kept for one that
  has no room even when all Jobs have ended: replicas need not end.
- An elastic Job can do without the Workers that it has above its least: those get a place after all others, and give
  it back where others wait for it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from cortex.domain.quantity import write_bytes
from cortex.engines.engine import Needs
from cortex.engines.outlook import Capacity, Outlook, is_short, plus


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a Worker has been given."""

    worker: str
    job_id: str
    needs: Needs
    devices: tuple[str, ...] = ()  # the GPUs that are its own
    lasts: bool = False  # it is of no Job, which ends: it may be there for ever


@dataclass(frozen=True, slots=True)
class _Order:
    """A Worker that waits."""

    worker: str
    job_id: str
    needs: Needs
    lasts: bool
    comes_first: bool
    number: int  # in the order in which they came


_Turn = tuple[bool, bool, int, int]


@dataclass(slots=True, kw_only=True)
class Places:
    """See the module."""

    millicores: int
    mem_bytes: int
    devices: Sequence[str]
    most_workers: int
    _placed: dict[str, Place] = field(default_factory=dict)
    _waiting: dict[str, _Order] = field(default_factory=dict)
    _line: dict[str, dict[str, _Order]] = field(default_factory=dict)  # those who wait, by Job, oldest first
    _placed_of: Counter[str] = field(default_factory=Counter)  # how many, by Job
    _needs_of: dict[str, Needs] = field(default_factory=dict)  # of each Worker of a Job that has a place
    _least_of: dict[str, int] = field(default_factory=dict)  # of elastic Jobs: what they do not give back
    _asked_of: Counter[str] | None = None  # what they are to give back; None where that has to be found out
    _taken: Needs = field(default_factory=Needs)  # by all of them together
    _lasting: Needs = field(default_factory=Needs)  # by those that may be there for ever
    _lasting_workers: int = 0
    _given: Counter[str] = field(default_factory=Counter)  # GPUs; one may be taken twice where it was adopted
    _is_settled: bool = False  # nothing has happened since nobody fitted: many are ordered, one by one
    _ordered: int = 0
    _capacity: Capacity = field(init=False)

    def __post_init__(self) -> None:
        """Nobody has a place yet."""
        self._capacity = Capacity(
            millicores=self.millicores, mem_bytes=self.mem_bytes, gpus=len(self.devices), workers=self.most_workers
        )

    def order(self, worker: str, job_id: str, needs: Needs, *, lasts: bool = False, comes_first: bool = False) -> None:
        """Let a Worker wait in line, or at its head."""
        self._ordered += 1
        order = self._waiting[worker] = _Order(worker, job_id, needs, lasts, comes_first, self._ordered)
        if self._is_settled:  # nobody gets a place because of one who is behind its like, or has no room itself
            has_room = self._fits(needs, beside=self._taken, workers=len(self._placed))
            self._is_settled = job_id in self._line or not has_room
        self._line.setdefault(job_id, {})[worker] = order
        self._asked_of = None

    def adopt(self, place: Place) -> None:
        """Count a Worker that runs already, whether or not there was room for it."""
        self._leave_line(place.worker)
        self._leave_place(place.worker)
        self._enter(place)
        self._has_changed()

    def release(self, worker: str) -> None:
        """Take a Worker out of the line, or out of its place. May be repeated."""
        self._leave_line(worker)
        self._leave_place(worker)

    def place_next(self) -> Place | None:
        """Give a place to the first in line that fits beside all others; None when nobody does."""
        if self._is_settled:
            return None
        place = self._place_first_that_fits()
        self._is_settled = place is None
        return place

    def _place_first_that_fits(self) -> Place | None:
        order = self._walk(self._outlook(), is_planning=False)
        return self._place(order) if order else None

    def may_keep(self, job_id: str, *, least: int) -> int | None:
        """Tell how many of its places an elastic Job may keep; None: all. See Engine."""
        if self._least_of.get(job_id) != least:
            known = self._placed_of.keys() | self._line.keys()
            self._least_of = {each: self._least_of[each] for each in self._least_of.keys() & known}
            self._least_of[job_id] = least
            self._has_changed()
        if self._asked_of is None:
            outlook = self._outlook()
            self._walk(outlook, is_planning=True)
            self._asked_of = outlook.given
        asked = self._asked_of[job_id]
        return self._placed_of[job_id] - asked if asked else None

    def _outlook(self) -> Outlook:
        return Outlook(
            capacity=self._capacity,
            taken=self._taken,
            workers=len(self._placed),
            placed=self._placed_of.copy(),
            least=self._least_of,
            needs=self._needs_of,
        )

    def _walk(self, outlook: Outlook, *, is_planning: bool) -> _Order | None:
        """Give the first in line that fits now; or see only what is to be given back for all of them together."""
        taken, workers = self._taken, len(self._placed)  # by those who are there, with what is kept
        line: list[tuple[_Turn, _Order, Iterator[_Order]]] = []
        for orders in self._line.values():
            behind = iter(orders.values())
            first = next(behind)
            line.append((self._turn(first, outlook), first, behind))
        heapify(line)
        is_first = True  # of those that get what they need when all Jobs have ended
        while line and (not is_planning or outlook.can_ask):
            _, order, behind = heappop(line)
            if outlook.has_room(order.needs) and self._fits(order.needs, beside=taken, workers=workers):
                if not is_planning:
                    return order
                taken, workers = plus(taken, order.needs), workers + 1
            elif not outlook.make_room(order.job_id, order.needs):
                has_room = self._capacity.has_room(order.needs, beside=self._lasting, workers=self._lasting_workers)
                if is_first and has_room and not outlook.is_spare(order.job_id):
                    taken, workers = plus(taken, order.needs), workers + 1  # what it waits for is kept for it
                    outlook.keep(order.needs)
                    is_first = False
                continue  # those behind it, of the same Job, need the same
            outlook.enter(order.job_id, order.needs)
            is_first = False
            if (after := next(behind, None)) is not None:
                heappush(line, (self._turn(after, outlook), after, behind))
        return None

    def _turn(self, order: _Order, outlook: Outlook) -> _Turn:
        comes_first = order.lasts and any(each.comes_first for each in self._line[order.job_id].values())
        return not comes_first, outlook.is_spare(order.job_id), outlook.placed[order.job_id], order.number

    def has_place(self, worker: str) -> bool:
        """Tell whether a Worker has been given a place."""
        return worker in self._placed

    def place_of(self, worker: str) -> Place | None:
        """Give what a Worker has been given."""
        return self._placed.get(worker)

    def shortage(self, needs: Needs) -> str:
        """Say what keeps a Worker that needs this from being placed now."""
        taken = self._taken
        if is_short(needs.millicores, taken.millicores, self.millicores):
            amounts = _cores(needs.millicores), _cores(taken.millicores), _cores(self.millicores)
            return _short("cpu", *amounts)
        if is_short(needs.mem_bytes, taken.mem_bytes, self.mem_bytes):
            amounts = write_bytes(needs.mem_bytes), _about(taken.mem_bytes), _about(self.mem_bytes)
            return _short("mem", *amounts)
        if is_short(needs.gpus, taken.gpus, len(self.devices)):
            return _short("gpu", str(needs.gpus), str(taken.gpus), str(len(self.devices)))
        if len(self._placed) >= self.most_workers:
            return f"{len(self._placed)} workers run already, and the machine runs no more at once"
        return "what is free is kept for a worker that is before them in line"

    def _fits(self, needs: Needs, *, beside: Needs, workers: int) -> bool:
        has_room = self._capacity.has_room(needs, beside=beside, workers=workers)
        return has_room and needs.gpus <= len(self._free_devices())

    def _free_devices(self) -> list[str]:
        return [device for device in self.devices if not self._given[device]]

    def _leave_line(self, worker: str) -> None:
        if order := self._waiting.pop(worker, None):
            del self._line[order.job_id][worker]
            if not self._line[order.job_id]:
                del self._line[order.job_id]
            self._has_changed()

    def _place(self, order: _Order) -> Place:
        self._leave_line(order.worker)
        devices = tuple(self._free_devices()[: order.needs.gpus])
        place = Place(worker=order.worker, job_id=order.job_id, needs=order.needs, devices=devices, lasts=order.lasts)
        self._enter(place)
        return place

    def _enter(self, place: Place) -> None:
        self._placed[place.worker] = place
        self._placed_of[place.job_id] += 1
        self._needs_of[place.job_id] = place.needs
        self._given.update(place.devices)
        self._take(place, times=1)

    def _leave_place(self, worker: str) -> None:
        if place := self._placed.pop(worker, None):
            self._placed_of[place.job_id] -= 1
            if not self._placed_of[place.job_id]:
                del self._placed_of[place.job_id], self._needs_of[place.job_id]
            self._given.subtract(place.devices)
            self._take(place, times=-1)
            self._has_changed()

    def _has_changed(self) -> None:
        self._is_settled, self._asked_of = False, None

    def _take(self, place: Place, *, times: int) -> None:
        self._taken = plus(self._taken, place.needs, times=times)
        if place.lasts:
            self._lasting = plus(self._lasting, place.needs, times=times)
            self._lasting_workers += times


def _short(what: str, needed: str, taken: str, there_is: str) -> str:
    verb = "is" if taken == "1" else "are"
    return f"each needs {needed} {what}, and {taken} of the machine's {there_is} {verb} taken"


def _about(count: int) -> str:
    return write_bytes(count // 2**20 * 2**20)


def _cores(millicores: int) -> str:
    return f"{millicores / 1000:g}"
