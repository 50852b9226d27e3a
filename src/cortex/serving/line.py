"""The requests of one API: which wait, and which process has which. A data structure without clock or I/O.

The promises, as long as every process that joins either answers what it was given or leaves:

- Every call is answered exactly once: by the process that it was given to, or with a refusal.
- A call is given to one process. It is given to another one only when the first has died and surely had not begun it.
- Calls are given in the order in which they came, each as soon as a process can take it.
- A process is never given more than it has threads, but for a few that are sent ahead to it while predict is so short
  that it would wait longer for the next one than it works on it.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from cortex.domain.errors import CortexError
from cortex.serving.calls import Answer, Incoming, refusal
from cortex.serving.counts import RequestCounts
from cortex.serving.load import InFlight

logger = logging.getLogger(__name__)

MOST_AHEAD: Final = 4
"""How many calls beyond its threads a process may have."""

SHORT_SECONDS: Final = 0.002
"""Calls are sent ahead where predict takes less than this."""

_WEIGHT: Final = 0.1
"""Of the latest predict in the mean."""


@dataclass(slots=True, eq=False)
class Call:
    """A request that is to be answered once."""

    incoming: Incoming
    answered: Callable[[Answer], None]
    came_at_ns: int
    is_answered: bool = False
    given_at_ns: int = 0
    pieces: list[bytes] = field(default_factory=list)  # of an answer that comes in several frames, so far


_OF_ANOTHER: Final = Incoming(query=b"", headers=(), content_type=None, body=b"")
"""What stands for the request of a call that an earlier operator has given."""


def _drop(answer: Answer) -> None:
    """Have nobody hear of an answer."""


@dataclass(slots=True, eq=False)
class Seat:
    """A process that takes calls."""

    name: str
    threads: int
    give: Callable[[int, Incoming], None]  # sends it a call with its number; lost if the process is gone
    given: dict[int, Call] = field(default_factory=dict)  # not answered yet
    is_open: bool = True
    has_answered: bool = False

    def running(self) -> Iterable[Call]:
        """Give what is in predict: its threads begin in the order in which it was given."""
        return islice(self.given.values(), self.threads)


@dataclass(slots=True)
class Line:
    """See the module. Instants are of one clock that never goes back."""

    now_ns: Callable[[], int]
    load: InFlight
    counts: RequestCounts = field(default_factory=RequestCounts)
    first_number: int = 1  # of the calls; later operators begin higher, so that answers to earlier ones are known
    predict_seconds: float | None = None  # the mean, the latest counting most
    _number: int = field(init=False)
    _waiting: deque[Call] = field(default_factory=deque)
    _seats: dict[str, Seat] = field(default_factory=dict)
    _free: dict[Seat, None] = field(default_factory=dict)  # open ones with a free thread, in turn
    _busy: dict[Seat, None] = field(default_factory=dict)  # open ones to which a call may be sent ahead, in turn

    def __post_init__(self) -> None:
        """Begin to count."""
        self._number = self.first_number

    # Calls

    @property
    def in_flight(self) -> int:
        """How many calls wait or are with a process, those included that their client was refused meanwhile."""
        return self.load.count

    @property
    def waiting(self) -> int:
        """How many have not been given to a process."""
        return len(self._waiting)

    @property
    def unanswered(self) -> int:
        """How many clients wait for an answer."""
        given = [call for seat in self._seats.values() for call in seat.given.values()]
        return len(self._waiting) + sum(not call.is_answered for call in given)

    def enter(self, incoming: Incoming, answered: Callable[[Answer], None]) -> None:
        """Take a call; it is given to a process, perhaps at once."""
        now_ns = self.now_ns()
        self.load.began(now_ns)
        call = Call(incoming, answered, now_ns)
        seat = None
        if not self._waiting:
            seat = self._next_seat()
        if seat is None:
            self._waiting.append(call)
        else:
            self._give(seat, call, now_ns)

    def answer(self, name: str, number: int, answer: Answer, *, seconds: float = 0.0, more: bool = False) -> None:
        """Take what a process has answered, or with `more` a first part of it; `seconds` it was in predict.

        Nothing happens where it never had the call, or has answered it.
        """
        seat = self._seats.get(name)
        if seat is None or number not in seat.given:
            return
        call = seat.given[number]
        if more:
            if not call.is_answered:
                call.pieces.append(answer.body)
            return
        del seat.given[number]
        seat.has_answered = True
        now_ns = self.now_ns()
        mean = self.predict_seconds
        self.predict_seconds = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
        self._refill(seat, now_ns)  # before the answer: whoever gets it may ask again
        self.load.ended(now_ns)
        if call.pieces:
            answer = Answer(answer.status, answer.headers, b"".join([*call.pieces, answer.body]))
        self._answer(call, answer, (now_ns - call.came_at_ns) / 1e9)

    def refuse_waiting(self, error: CortexError) -> None:
        """Answer all that wait with an error."""
        now_ns = self.now_ns()
        answer = refusal(error)
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            self.load.ended(now_ns)
            self._answer(call, answer, None)

    def refuse_all(self, error: CortexError) -> None:
        """Answer all with an error, also those that are with a process: what that says of them is of no interest."""
        self.refuse_waiting(error)
        for seat in self._seats.values():
            for call in seat.given.values():
                self._answer(call, refusal(error), None)

    # How long they take

    def expire(self, until_ns: int, error: Callable[[], CortexError]) -> None:
        """Answer those that came until then with an error. Those that wait wait no longer."""
        now_ns = self.now_ns()
        late = []
        while self._waiting and self._waiting[0].came_at_ns <= until_ns:
            late.append(self._waiting.popleft())
            self.load.ended(now_ns)
        for seat in self._seats.values():
            given = seat.given.values()
            late += [call for call in given if not call.is_answered and call.came_at_ns <= until_ns]
        for call in late:
            self._answer(call, refusal(error()), None)

    def late(self, until_ns: int) -> Mapping[str, bool]:
        """Name the processes in which a predict has begun until then; tell whether all that they run have."""
        found = {}
        for seat in self._seats.values():
            is_late = [call.given_at_ns <= until_ns for call in seat.running()]
            if any(is_late):
                found[seat.name] = all(is_late)
        return found

    def first_after(self, until_ns: int) -> int | None:
        """Give when the first call that came, or predict that began, later than that did so; None where none did."""
        instants = [self._waiting[0].came_at_ns] if self._waiting else []
        for seat in self._seats.values():
            instants += [call.came_at_ns for call in seat.given.values() if not call.is_answered]
            instants += [call.given_at_ns for call in seat.running()]
        return min((instant for instant in instants if instant > until_ns), default=None)

    # Processes

    def join(self, name: str, threads: int, give: Callable[[int, Incoming], None], busy: Iterable[int] = ()) -> None:
        """Let a process take calls; it is busy with these numbers, given to it by an earlier operator.

        Their clients are gone with that, but they are in flight, and may take too long, as any others.
        """
        now_ns = self.now_ns()
        seat = self._seats[name] = Seat(name=name, threads=threads, give=give)
        for number in busy:
            seat.given[number] = Call(_OF_ANOTHER, _drop, now_ns, is_answered=True, given_at_ns=now_ns)
            self.load.began(now_ns)
        self._refill(seat, now_ns)

    def rejoin(self, name: str, give: Callable[[int, Incoming], None], busy: Iterable[int], error: CortexError) -> None:
        """Let a process go on that was cut off; what it does not have any more is answered with the error."""
        seat = self._seats[name]
        has = set(busy)
        now_ns = self.now_ns()
        for number, call in list(seat.given.items()):
            if number not in has:
                del seat.given[number]
                self.load.ended(now_ns)
                self._answer(call, refusal(error), None)
        seat.give, seat.is_open = give, True
        self._refill(seat, now_ns)

    def close(self, name: str) -> None:
        """Give a process nothing more; it answers what it has."""
        if seat := self._seats.get(name):
            seat.is_open = False
            self._place(seat)

    def given_to(self, name: str) -> int:
        """How many calls a process has not answered."""
        seat = self._seats.get(name)
        return len(seat.given) if seat else 0

    def has_answered(self, name: str) -> bool:
        """Tell whether a process has ever answered a call."""
        seat = self._seats.get(name)
        return seat is not None and seat.has_answered

    def leave(self, name: str, error: CortexError, *, begun: int | None = None) -> None:
        """Part with a process that is gone: what it has begun is answered with the error, all else is given again.

        `begun` is the highest number that it has begun; None where that is not known, and then it may have begun all.
        """
        seat = self._seats.pop(name, None)
        if seat is None:
            return
        seat.is_open = False
        self._place(seat)
        now_ns = self.now_ns()
        again = []
        for number, call in seat.given.items():
            if begun is not None and number > begun and not call.is_answered:
                again.append(call)
                continue
            self.load.ended(now_ns)
            self._answer(call, refusal(error), None)
        for call in again:
            call.pieces.clear()
        self._waiting = deque(sorted([*again, *self._waiting], key=lambda call: call.came_at_ns))
        while self._waiting and (other := self._next_seat()):
            self._give(other, self._waiting.popleft(), now_ns)

    # Who gets what

    def _next_seat(self) -> Seat | None:
        """Give the process that is to have the next call."""
        if self._free:
            return next(iter(self._free))
        return next(iter(self._busy)) if self._busy and self._sends_ahead else None

    @property
    def _sends_ahead(self) -> bool:
        return self.predict_seconds is not None and self.predict_seconds < SHORT_SECONDS

    def _give(self, seat: Seat, call: Call, now_ns: int) -> None:
        number = self._number
        self._number = number + 1
        call.given_at_ns = now_ns
        seat.given[number] = call
        self._place(seat)
        seat.give(number, call.incoming)

    def _refill(self, seat: Seat, now_ns: int) -> None:
        """Give a process what it can take now."""
        self._place(seat)
        while self._waiting and (seat in self._free or (seat in self._busy and self._sends_ahead)):
            self._give(seat, self._waiting.popleft(), now_ns)

    def _place(self, seat: Seat) -> None:
        """Put a process behind all those that can take as much."""
        count = len(seat.given)
        self._free.pop(seat, None)
        self._busy.pop(seat, None)
        if not seat.is_open:
            return
        if count < seat.threads:
            self._free[seat] = None
        elif count < seat.threads + MOST_AHEAD:
            self._busy[seat] = None

    def _answer(self, call: Call, answer: Answer, seconds: float | None) -> None:
        """Answer a call, unless that has been done. What fails for one client must not harm others."""
        if call.is_answered:
            return
        call.is_answered = True
        self.counts.add(answer.status, seconds)
        try:
            call.answered(answer)
        except Exception:
            logger.exception("an answer could not be handed over")
