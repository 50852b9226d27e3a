"""W10: the first request to an API that has scaled to zero, until it is answered.

`min_replicas` is 0, the API has just been deployed to an operator that has answered no request since its start, and no
process of it is alive; the predictor imports scikit-learn and makes a model, in an environment that has been built
before. Beside it a bare Python of that environment which imports the same, makes the same model, and calls predict
once.
"""

import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus

from benchmarks.forest import PREDICTOR, PROJECT, Prepared
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, ratio, run_rounds
from benchmarks.turns import CORTEX

SETTLE_SECONDS = 1.0
REPEATS = 3
BARE = "bare Python: import, model, predict"
MUST = 1.5
ROWS = str([[0.1, 0.2, 0.3, 0.4]] * 32).encode()
NAME = "from-zero"
FROM_ZERO = {"autoscaling": {"min_replicas": 0}}


def run(report: Report, options: Options) -> None:
    """Compare the first answer with bare Python."""
    report.title("W10 scale from zero: the first request to an API without a process, until its answer")
    prepared = Prepared(options.folder)
    contestants = [
        Contestant(name=CORTEX, units=1, ready=partial(_ready, prepared), repeats=REPEATS),
        Contestant(name=BARE, units=1, ready=partial(_ready_bare, prepared), repeats=REPEATS),
    ]
    series = run_rounds(contestants, options.rounds)
    report.times("an operator that has answered no request since its start", series)
    found = ratio(series[BARE], series[CORTEX])
    report.verdict(10, "W10 the first answer, of the time of bare Python", found, MUST, at_least=False)


@contextmanager
def _ready(prepared: Prepared) -> Iterator[Run]:
    def run() -> float:
        with prepared.running() as service:
            service.process.deploy_realtime(PREDICTOR, name=NAME, files=PROJECT, sections=FROM_ZERO)
            time.sleep(SETTLE_SECONDS)  # what its own start still does is not the request's
            if service.process.worker_processes():
                raise RuntimeError("a process of the API was alive before its first request")
            seconds = _first_answer_seconds(service.process.address)
            service.process.http.delete(f"/_cortex/apis/{NAME}")  # or the next operator would start it as it was
            return seconds

    yield run


def _first_answer_seconds(address: str) -> float:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    began_at = time.perf_counter()
    connection.request("POST", f"/{NAME}", ROWS, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    seconds = time.perf_counter() - began_at
    connection.close()
    if response.status != HTTPStatus.OK:
        raise RuntimeError(f"the answer was {response.status}: {text[:300]!r}")
    return seconds


@contextmanager
def _ready_bare(prepared: Prepared) -> Iterator[Run]:
    yield prepared.bare_seconds
