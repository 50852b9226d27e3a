"""Contestants in turn, round by round: what a round's noise does to one, it does to all."""

import mmap
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Final

from benchmarks.tree import Memory, Peak, cpu_seconds, memory

EXIT_SECONDS: Final = 20
MB: Final = 10**6
TAKEN_BYTES: Final = 768 * 2**20
"""More than any work writes; the host gives it within the seconds for which an idle HTTP connection is kept."""

Run = Callable[[], float]
"""Do the work once; give the seconds that count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who takes part with how much: `ready` starts and warms it, and stops it at the end of its turn."""

    name: str
    units: int
    ready: Callable[[], AbstractContextManager[Run]]
    repeats: int = 1  # in one turn; the median counts
    helpers: tuple[int, ...] = ()  # processes that were there before, and work for it with all that they start


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn took: its median seconds, its share of the processors, or the memory where that was looked at."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak: Memory | None = None
    growth: int = 0
    problem: str = ""


@dataclass(slots=True, kw_only=True)
class Series:
    """What a contestant's turns took."""

    name: str
    units: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak: Memory | None = None  # beyond the bare process that drives it
    growth: int = 0  # of it, what came during the work
    problem: str = ""

    @property
    def growth_mb(self) -> float | None:
        """The growth in MB; nothing where its memory was not looked at."""
        return self.growth / MB if self.peak else None

    @property
    def rates(self) -> list[float]:
        """Units in a second, turn by turn."""
        return [self.units / seconds for seconds in self.seconds]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A median, and what it lies between."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """Take it of values; nothing, of none."""
        return cls(median=statistics.median(values), low=min(values), high=max(values)) if values else None


def ratio(ours: Series, theirs: Series | None) -> Spread | None:
    """Give how many times the rate of theirs ours is: the ratios within the rounds. Nothing, of one who is missing."""
    if theirs is None:
        return None
    pairs = zip(ours.rates, theirs.rates, strict=False)  # one that has failed has fewer
    return Spread.of([mine / other for mine, other in pairs])


def run_rounds(contestants: Sequence[Contestant], rounds: int, *, with_memory: bool = False) -> dict[str, Series]:
    """Give each its turn in every round, and one more to look at its memory, since looking takes time from it.

    One that fails has no further turns, and says why in its row.
    """
    series = {each.name: Series(name=each.name, units=each.units) for each in contestants}
    for number in range(rounds + with_memory):
        for each in contestants:
            mine = series[each.name]
            if mine.problem:
                continue
            _say(f"  round {number + 1}: {each.name}")
            turn = _in_own_process(each, looks_at_memory=number == rounds)
            mine.problem = turn.problem
            if turn.peak:
                mine.peak, mine.growth = turn.peak, turn.growth
            elif not turn.problem:
                mine.seconds.append(turn.seconds)
                mine.cpu_seconds.append(turn.cpu_seconds)
    _say("")
    return series


def _say(text: str) -> None:
    """Show who is at work, where someone watches."""
    if sys.stderr.isatty():
        print(text.ljust(78), end="\r", file=sys.stderr, flush=True)


def _in_own_process(contestant: Contestant, *, looks_at_memory: bool) -> Turn:
    """Take a turn in a fork, so that threads, modules and memory that a peer leaves behind are nobody else's."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_take_turn, args=(there, contestant, looks_at_memory))
    process.start()
    there.close()
    try:
        turn: Turn = here.recv()
    except EOFError:
        turn = Turn(problem="the process of its turn died")
    process.join(EXIT_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    return turn


def _take_turn(answer: Connection, contestant: Contestant, looks_at_memory: bool) -> None:
    try:
        bare = memory()
        with contestant.ready() as run:
            if looks_at_memory:
                with Peak() as peak:
                    run()
                beyond = Memory(pss=peak.highest.pss - bare.pss, rss=peak.highest.rss - bare.rss)
                turn = Turn(peak=beyond, growth=peak.growth)
            else:
                _take_memory()
                before = _cpu_seconds(contestant)
                seconds = statistics.median(run() for _ in range(contestant.repeats))
                turn = Turn(seconds=seconds, cpu_seconds=(_cpu_seconds(contestant) - before) / contestant.repeats)
    except Exception as error:  # whatever a peer raises is its row's text, and the others go on
        turn = Turn(problem=f"{type(error).__name__}: {error}".splitlines()[0])
    answer.send(turn)


def _take_memory() -> None:
    """Touch memory and give it back, so that what the work writes to is the machine's when the clock starts.

    What a virtual machine has not used for a while is its host's, and to get 4 KiB of it back may take 10 us: more than
    to write them. It would fall on whoever writes, in the turns in which the host has taken much.
    """
    with mmap.mmap(-1, TAKEN_BYTES) as taken:
        taken[:: mmap.PAGESIZE] = b"." * (TAKEN_BYTES // mmap.PAGESIZE)


def _cpu_seconds(contestant: Contestant) -> float:
    return cpu_seconds() + sum(map(cpu_seconds, contestant.helpers))
