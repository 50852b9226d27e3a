"""W1: what a batch costs. A local file of small lines, batches of 10, an empty predict, a log line for each batch.

cortex's clock starts before the `POST` and ends when the client sees the recorded end: reading, checking and indexing
the file, the start of the workers, and every commit are in it. The peers are handed batches that are parsed and in
memory.
"""

from benchmarks.load import small_lines
from benchmarks.options import Options
from benchmarks.peers import CHUNKED_POOL, POOL
from benchmarks.report import Report
from benchmarks.rounds import ratio, run_rounds
from benchmarks.service import NOTHING
from benchmarks.turns import CORTEX, cortex, peers

BATCH_SIZE = 10
AT_MOST = {"pool": 20_000, "pool16": 20_000, "celery": 3000, "dramatiq": 8000, "huey": 10_000, "dask": 2000}
MUST = {POOL: 2.0, "Celery + Redis": 60.0, "Dramatiq + Redis": 12.0, "Huey + SQLite": 5.0}


def run(report: Report, options: Options) -> None:
    """Compare with all peers on the small job, with Pool on the large one."""
    report.title("W1 dispatch: a local file of small lines, batches of 10, empty predict")
    small = small_lines(options.folder, options.batches(20_000, 5000), BATCH_SIZE)
    contestants = [cortex(small, options.folder, NOTHING)]
    contestants += peers(small, "nothing", options, AT_MOST | {"ray": options.batches(20_000, 1000)})
    series = run_rounds(contestants, options.rounds, with_memory=True)
    report.rates(f"{small.batches:,} batches", series, POOL)
    for name, bound in MUST.items():
        found = ratio(series[CORTEX], series.get(name))
        report.verdict(1, f"W1 {small.batches:,} batches, x {name}", found, bound)

    large = small_lines(options.folder, options.batches(200_000, 20_000), BATCH_SIZE)
    contestants = [cortex(large, options.folder, NOTHING)]
    contestants += peers(large, "nothing", options, {"pool": large.batches, "pool16": large.batches})
    series = run_rounds(contestants, options.rounds, with_memory=True)
    report.rates(f"{large.batches:,} batches", series, POOL)
    found = ratio(series[CORTEX], series.get(POOL))
    report.verdict(1, f"W1 {large.batches:,} batches, x {POOL}", found, MUST[POOL])
    if CHUNKED_POOL in series:
        report.note(f"{CHUNKED_POOL} is beside it for those whose batches may fail sixteen at a time.")
