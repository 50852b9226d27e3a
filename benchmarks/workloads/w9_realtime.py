"""W9: requests to a function that answers at once, behind the service and behind what people would use instead.

As many processes call the function behind each: one, and two. Requests of 80 bytes of JSON come over 32 connections,
each of which sends the next when the last is answered; every answer is compared. The servers run, and have answered
some hundreds, before the clock does. How late the answers to a single connection are is measured before that.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.empty import ANSWER, PAYLOAD
from benchmarks.http_rate import Endpoint
from benchmarks.options import Options
from benchmarks.peers import BENTOML, FAST, PLAIN, RAY_SERVE, RAY_SERVE_FAST, chosen_servers
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, ratio, run_rounds
from benchmarks.service import Service
from benchmarks.turns import CORTEX

CONNECTIONS = 32
REQUESTS = 20_000
ALONE_REQUESTS = 300
QUICK_PART, WARM_PART = 20, 5
MUST = {PLAIN: 0.5, FAST: 0.5, RAY_SERVE: 1.0, RAY_SERVE_FAST: 1.0, BENTOML: 1.0}

PREDICTOR = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return {"label": "setosa"}
"""

Start = Callable[[], AbstractContextManager[str]]
"""Start what answers; give the URL to which JSON is sent."""


def run(report: Report, options: Options) -> None:
    """Compare all of them, with one process each and with two."""
    report.title(f"W9 realtime: a function that answers at once, {CONNECTIONS} connections")
    for processes, what in ((1, "1 process"), (2, "2 processes")):
        _compare(report, options, processes, what)


def _compare(report: Report, options: Options, processes: int, what: str) -> None:
    starts: dict[str, tuple[int, Start]] = {CORTEX: (REQUESTS, partial(_running_service, options.folder, processes))}
    for server in chosen_servers(options).values():
        own = Path(mkdtemp(dir=options.folder))
        starts[server.name] = server.requests, partial(server.running, processes, own)
    contestants, notes = [], {}
    for name, (requests, start) in starts.items():
        count = options.batches(requests, requests // QUICK_PART)
        notes[name] = Path(mkdtemp(dir=options.folder)) / "turns"
        contestants.append(Contestant(name=name, units=count, ready=partial(_ready, start, count, notes[name])))
    series = run_rounds(contestants, options.rounds)
    report.rates(what, series, FAST, "requests")
    report.figures(f"{what}, ms until the answer: medians of the rounds", _times(notes))
    for name, bound in MUST.items():
        report.verdict(9, f"W9 requests/s, {what}, x {name}", ratio(series[CORTEX], series.get(name)), bound)


@contextmanager
def _ready(start: Start, count: int, notes: Path) -> Iterator[Run]:
    with start() as url:
        endpoint = Endpoint.find(url, PAYLOAD, ANSWER)
        endpoint.measure(max(count // WARM_PART, CONNECTIONS), CONNECTIONS)
        alone = endpoint.measure(ALONE_REQUESTS, 1)

        def run() -> float:
            rate = endpoint.measure(count, CONNECTIONS)
            figures = {
                "p50": rate.percentile_ms(50),
                "p99": rate.percentile_ms(99),
                "1 connection p50": alone.percentile_ms(50),
                "1 connection p99": alone.percentile_ms(99),
            }
            with notes.open("a") as file:  # this turn is taken in a process of its own
                file.write(json.dumps(figures) + "\n")
            return rate.seconds

        yield run


def _times(notes: Mapping[str, Path]) -> list[dict[str, Any]]:
    rows = []
    for name, path in notes.items():
        turns = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if turns:
            rows.append({"": name, **{key: statistics.median(turn[key] for turn in turns) for key in turns[0]}})
    return rows


@contextmanager
def _running_service(folder: Path, processes: int) -> Iterator[str]:
    """Run an operator with a RealtimeAPI that has one replica of so many processes."""
    service = Service(Path(mkdtemp(dir=folder))).start()
    try:
        scaling = {"min_replicas": 1, "max_replicas": 1}
        service.process.deploy_realtime(PREDICTOR, processes_per_replica=processes, sections={"autoscaling": scaling})
        yield f"{service.process.address}/api"
    finally:
        service.stop()
