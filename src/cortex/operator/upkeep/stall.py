"""What a Job without progress waits for: facts in, words out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cortex.domain.identity import log_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """Something that goes on in a Worker, since then."""

    what: str  # to be followed by "has been running"
    pid: int | None
    since_ns: int
    node: str | None = None  # where that Worker runs, if elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the words depend on. Instants are nanoseconds since 1970."""

    now_ns: int
    since_ns: int  # when something has gone on the last time
    is_ending: bool = False  # every Batch has ended, and the hook is over
    hook: Busy | None = None
    batches: Sequence[Busy] = ()
    starts: Sequence[Busy] = ()  # Workers that construct their predictor
    imports: int = 0  # Workers that wait for the predictor's module
    lost: int = 0  # Workers of an earlier operator that are looked for
    environment: str | None = None  # how far it is, while it is not ready
    shortage: str | None = None  # how many Workers wait for a place, and why
    next_attempt_at_ns: int | None = None  # of what has failed and waits


def explain(facts: Facts) -> str:
    """Say since when no Batch has ended, and what goes on instead: the first cause that all others follow from."""
    if facts.is_ending:
        return f"the end of the job has not been recorded for {_span(facts)}; the operator's log may say why"
    if facts.hook is not None:
        return f"all batches have ended: {_longest([facts.hook], facts)}"
    return f"no batch has ended for {_span(facts)}: {_cause(facts)}"


def _cause(facts: Facts) -> str:
    if facts.batches:
        return _longest(facts.batches, facts)
    if facts.environment is not None:
        return f"the environment is not ready ({facts.environment})"
    if facts.lost:
        return f"{_count(facts.lost, 'worker')} of an earlier operator {_is(facts.lost)} looked for"
    if facts.starts:
        return _longest(facts.starts, facts)
    if facts.imports:
        return f"{_count(facts.imports, 'worker')} {_is(facts.imports)} being started (the predictor's import)"
    if facts.shortage is not None:
        return facts.shortage
    if facts.next_attempt_at_ns is not None:
        return f"what has failed is tried again at {instant(facts.next_attempt_at_ns)}"
    return "no worker is in one"


def _longest(all_of_them: Sequence[Busy], facts: Facts) -> str:
    longest = min(all_of_them, key=lambda busy: busy.since_ns)
    where = f" in worker {log_name(longest.pid, longest.node)}" if longest.pid is not None else ""
    others = f", and {_count(len(all_of_them) - 1, 'other')} for less" if len(all_of_them) > 1 else ""
    return f"{longest.what} has been running for {span(facts.now_ns - longest.since_ns)}{where}{others}"


def _span(facts: Facts) -> str:
    return span(facts.now_ns - facts.since_ns)


def span(nanoseconds: int) -> str:
    """Write how long something takes: `12s`, `5m 12s`, `3h 5m`, `2d 3h`."""
    seconds = max(0, nanoseconds) // 10**9
    units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    for (large, size), (small, smaller) in pairwise(units):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size}{large} {rest}{small}" if rest else f"{seconds // size}{large}"
    return f"{seconds}s"


def instant(at_ns: int) -> str:
    """`2026-07-20 01:07:44 UTC`"""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_ns // 10**9))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
