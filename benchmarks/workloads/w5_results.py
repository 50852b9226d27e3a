"""W5: W3 with each row returned, and all rows read back in order over HTTP and compared with the file.

The clock covers the job and the reading, which a client may begin with the job (`?follow=true`) or after its end. The
lines are as orjson writes them, so that the rows must be the bytes of the file again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.load import Load, large_lines
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import MB, Contestant, Run, ratio, run_rounds
from benchmarks.service import NOTHING, ROWS, Service, lines_of, running_service
from benchmarks.turns import cortex

BATCH_SIZE = 100
READ_BYTES = 2**20
NO_ROWS, FOLLOWED, READ_AFTER, TO_THE_END = (
    "W3: nothing returned",
    "rows returned, read back while it runs",
    "rows returned, read back after its end",
    "rows returned, to the recorded end",
)
MUST = 0.5


def run(report: Report, options: Options) -> None:
    """Compare the job with rows to the job without."""
    load = large_lines(options.folder, options.batches(20_000, 1000), BATCH_SIZE)
    report.title(f"W5 results: the rows of W3 ({load.path.stat().st_size / MB:.0f} MB) returned and read back in order")
    contestants = [
        cortex(load, options.folder, NOTHING, name=NO_ROWS),
        *(
            Contestant(name=name, units=load.batches, ready=partial(_ready, options.folder, load, finish))
            for name, finish in ((FOLLOWED, _follow), (READ_AFTER, _read_after), (TO_THE_END, _wait))
        ),
    ]
    series = run_rounds(contestants, options.rounds, with_memory=True)
    report.rates(f"{load.batches:,} batches", series, NO_ROWS)
    for name in (FOLLOWED, READ_AFTER):
        report.verdict(5, f"W5 of the rate of W3: {name}", ratio(series[name], series[NO_ROWS]), MUST)


@contextmanager
def _ready(folder: Path, load: Load, finish: Callable[[Service, str, Load], None]) -> Iterator[Run]:
    with running_service(folder, ROWS) as service:
        service.list_files(lines_of(load))

        def run() -> float:
            began_at = time.perf_counter()
            finish(service, service.submit(lines_of(load)), load)
            return time.perf_counter() - began_at

        yield run


def _follow(service: Service, job: str, load: Load) -> None:
    read_back(service, job, load, "?follow=true")
    service.wait(job)


def _read_after(service: Service, job: str, load: Load) -> None:
    service.wait(job)
    read_back(service, job, load)


def _wait(service: Service, job: str, _: Load) -> None:
    service.wait(job)


def read_back(service: Service, job: str, load: Load, query: str = "") -> None:
    """Read all rows; raise if they are not the lines of the file in their order."""
    response = service.http.stream(f"/api/{job}/results{query}")
    with load.path.open("rb") as file:
        while chunk := response.read(READ_BYTES):
            if file.read(len(chunk)) != chunk:
                raise RuntimeError(f"the rows differ from the lines before byte {file.tell()}")
        if file.read(1):
            raise RuntimeError("there are fewer rows than lines")
