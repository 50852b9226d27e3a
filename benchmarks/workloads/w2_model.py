"""W2: 5,000 batches of 32 rows and a scikit-learn model of 1 to 3 ms; then three mixes of uneven batches.

The ideal is two plain processes that have their halves parsed and in memory, and do nothing but predict. cortex's clock
starts with its first `processing batch` line and ends with the recorded end; the peers' as in W1. The uneven batches
sleep; their bound is the greedy one: each batch in order to whoever is free first, nothing in between. The sleeps are
counted as plain processes take them in the same round, since one of 1 ms takes 7 to 10 percent more; the bound of what
was asked for is shown beside it.
"""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.forest import Prepared
from benchmarks.greedy import greedy_seconds
from benchmarks.ideal import slept
from benchmarks.load import Load, flowers
from benchmarks.options import WORKERS, Options
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, Spread, ratio, run_rounds
from benchmarks.service import items_of, lines_of, running_service
from benchmarks.turns import CORTEX, peers

BATCH_SIZE = 32
IDEAL = "two plain processes, half each"
AT_MOST = {"pool": 2000, "celery": 1000, "dramatiq": 1000, "huey": 1000, "dask": 1000}
MUST, MUST_UNEVEN = 0.93, 0.9

MIXES = {
    "40 x 200 ms": [0.2] * 40,
    "2000 x 1 ms, each 100th 60 ms": [0.06 if n % 100 == 50 else 0.001 for n in range(2000)],
    "1000 x 1 ms, then 10 x 150 ms": [0.001] * 1000 + [0.15] * 10,
}

SLEEPER = """
import time


class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        time.sleep(payload[0])
"""


def run(report: Report, options: Options) -> None:
    """Compare with the ideal, then with the bounds."""
    report.title(f"W2 model: batches of {BATCH_SIZE} rows, a forest of scikit-learn")
    load = flowers(options.folder, options.batches(5000, 500), BATCH_SIZE)
    prepared = Prepared(options.folder)
    contestants = [
        Contestant(name=CORTEX, units=load.batches, ready=partial(ready_model, prepared, load)),
        Contestant(name=IDEAL, units=load.batches, ready=partial(prepared.halves, load)),
        *peers(load, "forest", options, AT_MOST),
    ]
    series = run_rounds(contestants, options.rounds)
    report.rates(f"{load.batches:,} batches, cortex from its first batch", series, IDEAL)
    report.verdict(2, "W2 of the rate of the ideal, from the first batch", ratio(series[CORTEX], series[IDEAL]), MUST)
    uneven(report, options)


@contextmanager
def ready_model(prepared: Prepared, load: Load) -> Iterator[Run]:
    """Run an operator on what is prepared; give what runs a job over a load, timed from its first batch."""
    with prepared.running() as service:
        service.run(items_of([[0.1, 0.2, 0.3, 0.4]] * 20))
        yield lambda: service.run_from_first_batch(lines_of(load))


def uneven(report: Report, options: Options) -> None:
    """Run the mixes in turn; show what part of the time the bound is."""
    of_asked: dict[str, list[float]] = {mix: [] for mix in MIXES}
    of_taken: dict[str, list[float]] = {mix: [] for mix in MIXES}
    with running_service(options.folder, SLEEPER) as service:
        for _ in range(options.rounds):
            for mix, sleeps in MIXES.items():
                taken = slept(sleeps)
                service.http.close()  # after so long it may be the operator that closes it
                seconds = service.run_from_first_batch(items_of(sleeps))
                of_asked[mix].append(greedy_seconds(sleeps, WORKERS) / seconds)
                of_taken[mix].append(greedy_seconds(taken, WORKERS) / seconds)
    rows = [
        {
            "mix": mix,
            "of the sleeps asked for": statistics.median(of_asked[mix]),
            "of the sleeps that plain processes took": statistics.median(of_taken[mix]),
        }
        for mix in MIXES
    ]
    report.figures("uneven mixes, the greedy bound divided by the time", rows)
    for mix in MIXES:
        report.verdict(2, f"W2 greedy bound / time: {mix}", Spread.of(of_taken[mix]), MUST_UNEVEN)
