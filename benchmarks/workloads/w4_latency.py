"""W4: one job of one batch, from submission until the client sees that it is done; warm and cold.

Warm: workers are up, or as warm as they stay. Beside it the least that a durable submission costs: the same web
framework, one SQLite commit, nothing else. Cold: nothing of the workers runs; the predictor imports scikit-learn, and
its environment has been built before. Beside it a bare Python of that environment which imports the same, makes the
same model, and calls predict once.
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks import forest
from benchmarks.bare_submit import running_bare_submit
from benchmarks.connection import Connection
from benchmarks.load import small_lines
from benchmarks.options import Options
from benchmarks.peers import CELERY, CELERY_RESULTS
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, Series, Spread, ratio, run_rounds
from benchmarks.service import NOTHING, items_of, running_service
from benchmarks.turns import CORTEX, peers

REPEATS = 30
COLD_REPEATS = 3
PEERS = ("pool", "celery", "celeryget", "dramatiq", "huey", "dask")
ITEM = [5.1, 3.5, 1.4, 0.2]
BARE_SUBMIT, BARE_PYTHON = "bare durable submit", "bare Python: import, model, predict"
SUBMIT_ONLY = "cortex, the answer to the submission alone"
MUST_BARE, MUST_CELERY, MUST_COLD = 20.0, 1.0, 1.3
SETTLE_SECONDS = 1.0
ONE_BATCH = {"workers": 1, **items_of([ITEM] * 10, 10)}


def run(report: Report, options: Options) -> None:
    """Take warm and cold jobs."""
    report.title("W4 latency: one batch, submission to done")
    one = small_lines(options.folder, 1, 10)
    contestants = [
        Contestant(name=CORTEX, units=1, ready=partial(_ready_service, options.folder), repeats=REPEATS),
        Contestant(name=SUBMIT_ONLY, units=1, ready=partial(_ready_submit, options.folder), repeats=REPEATS),
        Contestant(name=BARE_SUBMIT, units=1, ready=partial(_ready_bare, options.folder), repeats=10 * REPEATS),
        *peers(one, "nothing", options, dict.fromkeys(PEERS, 1), repeats=REPEATS),
    ]
    series = run_rounds(contestants, options.rounds)
    report.times(f"warm, p50 of {REPEATS} in each round", series)
    of_bare = _times_as_long(series, BARE_SUBMIT)
    report.verdict(4, f"W4 warm p50 in {BARE_SUBMIT}s", of_bare, MUST_BARE, at_least=False)
    for name in (CELERY, CELERY_RESULTS):
        found = _times_as_long(series, name)
        report.verdict(4, f"W4 warm p50, of the time of {name}", found, MUST_CELERY, at_least=False)
    cold(report, options)


def cold(report: Report, options: Options) -> None:
    """Compare the first job of an operator with bare Python."""
    prepared = forest.Prepared(options.folder)
    with prepared.running() as service:
        service.run(ONE_BATCH)
    contestants = [
        Contestant(name=CORTEX, units=1, ready=partial(_ready_cold, prepared), repeats=COLD_REPEATS),
        Contestant(name=BARE_PYTHON, units=1, ready=partial(_ready_python, prepared), repeats=COLD_REPEATS),
    ]
    series = run_rounds(contestants, options.rounds)
    report.times("cold, an operator that has run no job since its start", series)
    found = _times_as_long(series, BARE_PYTHON)
    report.verdict(4, "W4 cold, of the time of bare Python", found, MUST_COLD, at_least=False)


def _times_as_long(series: Mapping[str, Series], name: str) -> Spread | None:
    other = series.get(name)
    return None if other is None else ratio(other, series[CORTEX])


@contextmanager
def _ready_service(folder: Path) -> Iterator[Run]:
    with running_service(folder, NOTHING) as service:
        service.run(ONE_BATCH)
        yield lambda: service.run(ONE_BATCH)


@contextmanager
def _ready_submit(folder: Path) -> Iterator[Run]:
    with running_service(folder, NOTHING) as service:

        def submit() -> float:
            began_at = time.perf_counter()
            job = service.submit(ONE_BATCH)
            seconds = time.perf_counter() - began_at
            service.wait(job)
            return seconds

        submit()
        yield submit


@contextmanager
def _ready_bare(folder: Path) -> Iterator[Run]:
    body = json.dumps(ONE_BATCH).encode()
    with running_bare_submit(Path(mkdtemp(dir=folder))) as address:
        connection = Connection(address)

        def submit() -> float:
            began_at = time.perf_counter()
            connection.post("/api", body)
            return time.perf_counter() - began_at

        statistics.median(submit() for _ in range(REPEATS))
        yield submit
        connection.close()


@contextmanager
def _ready_cold(prepared: forest.Prepared) -> Iterator[Run]:
    def run() -> float:
        with prepared.running() as service:
            time.sleep(SETTLE_SECONDS)  # what its own start still does is not the job's
            return service.run(ONE_BATCH)

    yield run


@contextmanager
def _ready_python(prepared: forest.Prepared) -> Iterator[Run]:
    yield prepared.bare_seconds
