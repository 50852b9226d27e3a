"""What the service costs per batch: 20,000 empty batches of 10 small items, beside multiprocessing.Pool.

    python benchmarks/dispatch.py [--batches 20000] [--rounds 5]

Both run the same predict over the same batches in two processes, turn by turn. The pool keeps nothing: it is started
and warmed before its clock starts, and gets its batches from memory. For the service the clock covers everything: the
client's JSON encoding, the durable submission over HTTP, the start of two worker processes, a log line per batch, and
the durable record of the job's end.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from operator_process import OperatorProcess

WORKERS = 2
BATCH_SIZE = 10
ITEM = [5.2, 3.6, 1.5, 0.3]

PREDICTOR = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        {body}
"""


def predict(payload: list[Any]) -> None:
    """Do nothing, as the predictor does."""


def pool_seconds(batches: list[list[Any]]) -> float:
    """Time multiprocessing.Pool over the batches."""
    with multiprocessing.Pool(WORKERS) as pool:
        list(pool.imap_unordered(predict, batches[:20]))
        began_at = time.perf_counter()
        for _ in pool.imap_unordered(predict, batches):
            pass
        return time.perf_counter() - began_at


@contextmanager
def running_operator() -> Iterator[OperatorProcess]:
    """Run an operator on data of its own."""
    with tempfile.TemporaryDirectory() as folder:
        operator = OperatorProcess(Path(folder) / "data").start()
        try:
            operator.deploy(PREDICTOR.format(body="pass"), name="empty")
            operator.deploy(PREDICTOR.format(body="return payload"), name="rows")
            yield operator
        finally:
            operator.stop()


def job_seconds(operator: OperatorProcess, api: str, items: list[Any], batch_size: int) -> tuple[float, float]:
    """Time a job from before its submission, and from its first batch, until its end is recorded."""
    began_at = time.time()
    job = operator.submit(items, api=api, batch_size=batch_size, workers=WORKERS)
    status = operator.wait(job, api=api)
    if status["status"] != "status_succeeded":
        raise RuntimeError(f"the job ended as {status}")
    first_batch = next(line for line in operator.log(job, api=api).splitlines() if "processing batch" in line)
    ended_at = instant(status["end_time"].rstrip("Z"))
    return ended_at - began_at, ended_at - instant(first_batch[:26].replace(" ", "T"))


def instant(text: str) -> float:
    """Read an instant of the API or of the log, both in UTC."""
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC).timestamp()


def main() -> None:
    """Run all in turn, and print medians beside the pool's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    items = [ITEM] * (arguments.batches * BATCH_SIZE)
    batches = [items[first : first + BATCH_SIZE] for first in range(0, len(items), BATCH_SIZE)]
    seconds: dict[str, list[float]] = defaultdict(list)
    with running_operator() as operator:
        for _ in range(arguments.rounds):
            seconds["multiprocessing.Pool, warm"].append(pool_seconds(batches))
            for api, what in (("empty", "nothing returned"), ("rows", "rows returned")):
                whole, from_first_batch = job_seconds(operator, api, items, BATCH_SIZE)
                seconds[f"cortex, {what}: submission to recorded end"].append(whole)
                seconds[f"cortex, {what}: first batch to recorded end"].append(from_first_batch)
    pool = seconds["multiprocessing.Pool, warm"]
    print(f"{arguments.batches} batches of {BATCH_SIZE}, {WORKERS} workers, medians of {arguments.rounds} rounds")
    for name, values in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(pool, values, strict=True)]
        rate = arguments.batches / statistics.median(values)
        spread = f"[{min(ratios):.2f}..{max(ratios):.2f}]"
        print(f"{name:55} {rate:>9,.0f} batches/s   {statistics.median(ratios):5.2f} x Pool {spread}")


if __name__ == "__main__":
    main()
