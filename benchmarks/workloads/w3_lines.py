"""W3: a file of 200 MB and 2 million lines in batches of 100, an empty predict; local, and as an object in S3.

Peers read the file in the driver, hand on the text of 100 lines, and parse in the worker: the strong form. cortex
checks every line and parses it for the predictor. The S3 serves the same file as one object, by `sendfile`, so that
not it is measured.
"""

from functools import partial

from benchmarks.ideal import halves
from benchmarks.load import large_lines
from benchmarks.options import Options
from benchmarks.peers import POOL
from benchmarks.report import Report
from benchmarks.rounds import MB, Contestant, ratio, run_rounds
from benchmarks.service import NOTHING
from benchmarks.synthetic_s3 import running_s3
from benchmarks.turns import CORTEX, cortex, cortex_on_s3, peers

BATCH_SIZE = 100
AT_MOST = {"celery": 2000, "dramatiq": 5000, "huey": 8000, "dask": 1500}
FROM_S3, IDEAL = "cortex, the file in S3", "two plain processes, half each"
MUST, MUST_FROM_S3, MUST_GROW_MB = 4.0, 2.0, 50.0


def run(report: Report, options: Options) -> None:
    """Compare with all peers, and look at the memory."""
    load = large_lines(options.folder, options.batches(20_000, 4000), BATCH_SIZE)
    report.title(f"W3 lines: a file of {load.path.stat().st_size / MB:.0f} MB, batches of {BATCH_SIZE}, empty predict")
    s3 = partial(running_s3, 1, load.path)
    contestants = [
        cortex(load, options.folder, NOTHING),
        cortex_on_s3(s3, options.folder, load.batches, name=FROM_S3, batch_size=BATCH_SIZE),
    ]
    contestants.append(Contestant(name=IDEAL, units=load.batches, ready=partial(halves, load)))
    at_most = AT_MOST | {"pool": load.batches, "pool16": load.batches, "ray": load.batches}
    contestants += peers(load, "parse", options, at_most)
    series = run_rounds(contestants, options.rounds, with_memory=True)
    report.rates(f"{load.batches:,} batches", series, POOL)
    pool = series.get(POOL)
    report.verdict(3, f"W3 local, x {POOL}", ratio(series[CORTEX], pool), MUST)
    report.verdict(3, f"W3 from S3, x {POOL} over the local file", ratio(series[FROM_S3], pool), MUST_FROM_S3)
    for name in (CORTEX, FROM_S3):
        report.verdict(3, f"W3 {name}: MB above idle", series[name].growth_mb, MUST_GROW_MB, at_least=False)
