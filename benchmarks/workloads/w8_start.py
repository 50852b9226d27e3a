"""W8: 8 workers of a predictor that imports scikit-learn, beside one: from the submission until the last is ready.

The operator has run no job since its start, and the environment has been built before. A predictor leaves a file with
the time when it is constructed; no batch ends before all have, so that no worker comes too late to be needed.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.forest import Prepared
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, ratio, run_rounds
from benchmarks.service import items_of

SETTLE_SECONDS = 1.0
REPEATS = 3
ONE, EIGHT, BARE = "1 worker", "8 workers", "bare Python: import, model, predict"
MUST = 1.5

PREDICTOR = """
import os
import time
from pathlib import Path

from forest_model import make_model


class PythonPredictor:
    def __init__(self, config):
        self.model = make_model()
        self.folder, self.workers = Path(config["folder"]), config["workers"]
        (self.folder / str(os.getpid())).write_text(repr(time.time()))

    def predict(self, payload):
        while len(list(self.folder.iterdir())) < self.workers:
            time.sleep(0.01)
"""


def run(report: Report, options: Options) -> None:
    """Compare eight with one."""
    report.title("W8 start: workers of a predictor that imports scikit-learn, submission to the last one ready")
    prepared = Prepared(options.folder, PREDICTOR)
    contestants = [
        Contestant(name=ONE, units=1, ready=partial(_ready, prepared, options.folder, 1), repeats=REPEATS),
        Contestant(name=EIGHT, units=1, ready=partial(_ready, prepared, options.folder, 8), repeats=REPEATS),
        Contestant(name=BARE, units=1, ready=partial(_ready_bare, prepared), repeats=REPEATS),
    ]
    series = run_rounds(contestants, options.rounds)
    report.times("an operator that has run no job since its start", series)
    report.verdict(
        8, "W8 the start of 8 workers, of that of one", ratio(series[ONE], series[EIGHT]), MUST, at_least=False
    )


@contextmanager
def _ready(prepared: Prepared, folder: Path, workers: int) -> Iterator[Run]:
    def run() -> float:
        marks = Path(mkdtemp(dir=folder))
        request = items_of([0] * 4 * workers, workers=workers, config={"folder": str(marks), "workers": workers})
        with prepared.running() as service:
            time.sleep(SETTLE_SECONDS)
            submitted_at = time.time()
            service.wait(service.submit(request))
        return max(float(mark.read_text()) for mark in marks.iterdir()) - submitted_at

    yield run


@contextmanager
def _ready_bare(prepared: Prepared) -> Iterator[Run]:
    yield prepared.bare_seconds
