"""What enqueuing costs the operator: memory for a small and a large input, and answers while it is at work.

    python benchmarks/enqueuing.py [--large-mb 2000] [--keys 1000000]

Peak memory is that of the operator and its enqueuing processes together, looked at every 20 ms. Each comparison is of
jobs in one run: a file of 20 MB and one of 2 GB on the disk, the same as an object in S3, and listings of a thousand
keys and of a million. The S3 is a synthetic one (synthetic_s3.py), so that neither is limited by what a real one costs.
The time of `GET` of a status is taken while the million keys are listed and enqueued, and from the idle operator.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from synthetic_s3 import LINE, LINE_BYTES

from operator_process import OperatorProcess

MB = 10**6
LOOK_SECONDS = 0.02
BATCH_SIZE = 1000

PREDICTOR = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        pass
"""


class Memory(threading.Thread):
    """Watches how much memory an operator and its enqueuing processes have together."""

    def __init__(self, operator: OperatorProcess) -> None:
        super().__init__(daemon=True)
        self._operator = psutil.Process(operator.process.pid if operator.process else None)
        self._is_over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._now())

    def _now(self) -> int:
        total = self._operator.memory_info().rss
        for child in self._operator.children():
            try:
                if "cortex.enqueuing" in child.cmdline():
                    total += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return int(total)

    def __enter__(self) -> "Memory":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()


@contextmanager
def synthetic_s3(keys: int, object_bytes: int) -> Iterator[dict[str, str]]:
    """Run a synthetic S3; give the variables by which it is reached."""
    script = Path(__file__).with_name("synthetic_s3.py")
    command = [sys.executable, str(script), str(keys), str(object_bytes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip() if process.stdout else ""
        yield {
            "AWS_ENDPOINT_URL_S3": address,
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        process.communicate()


@contextmanager
def running_operator(folder: Path, env: dict[str, str] | None = None) -> Iterator[OperatorProcess]:
    """Run an operator on data of its own."""
    operator = OperatorProcess(folder / "data", env=env or {}).start()
    try:
        operator.deploy(PREDICTOR)
        yield operator
    finally:
        operator.stop()


def submit(operator: OperatorProcess, request: dict[str, Any]) -> str:
    """Submit a job; give its id."""
    answer = operator.http.post("/api", json={"workers": 1, **request})
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def enqueue(
    operator: OperatorProcess, request: dict[str, Any], answered: list[float] | None = None
) -> tuple[int, float, int]:
    """Run a job to its end; give its batches, the seconds of its enqueuing, and the peak memory meanwhile.

    Collects how long its status took to be answered while it was enqueued, in milliseconds.
    """
    with Memory(operator) as memory:
        began_at = time.perf_counter()
        job, status = submit(operator, request), {"status": "status_enqueuing"}
        while status["status"] == "status_enqueuing":
            time.sleep(0.01)
            asked_at = time.perf_counter()
            status = operator.status(job)
            if answered is not None:
                answered.append(1000 * (time.perf_counter() - asked_at))
        seconds = time.perf_counter() - began_at
        status = operator.wait(job)
    if status["status"] != "status_succeeded":
        raise RuntimeError(f"the job ended as {status}")
    return status["total_batch_count"], seconds, memory.peak_bytes


def write_lines(path: Path, size_bytes: int) -> None:
    """Write a file of so many bytes."""
    with path.open("wb") as file:
        for first in range(0, size_bytes // LINE_BYTES, 10_000):
            file.write(b"".join(LINE % number for number in range(first, first + 10_000)))


def compare(name: str, rows: list[tuple[str, tuple[int, float, int], float]]) -> None:
    """Print what each input took, and how much more memory the last took than the first."""
    print(f"\n{name}")
    for what, (batches, seconds, peak_bytes), size_mb in rows:
        speed = f"{size_mb / seconds:6.0f} MB/s" if size_mb else f"{batches / seconds:6.0f} batches/s"
        print(f"  {what:16} {batches:9,} batches {seconds:7.1f} s {speed:>18} {peak_bytes / MB:7.1f} MB at its peak")
    print(f"  more memory for the large one: {(rows[-1][1][2] - rows[0][1][2]) / MB:+.1f} MB")


def answer_times(operator: OperatorProcess, job: str, until: threading.Event) -> list[float]:
    """Ask for the status of a job, again and again, until something has happened; give the times in milliseconds."""
    times = []
    with httpx.Client(base_url=operator.address) as client:
        while not until.wait(0.01):
            began_at = time.perf_counter()
            client.get(f"/api/{job}").raise_for_status()
            times.append(1000 * (time.perf_counter() - began_at))
    return times


def quantiles(times: list[float]) -> str:
    """Show the median and the 99th percentile of times in milliseconds."""
    return f"p50 {statistics.median(times):6.2f} ms   p99 {statistics.quantiles(times, n=100)[98]:6.2f} ms"


def files_on_disk(folder: Path, large_mb: int) -> None:
    """Compare a small and a large file."""
    rows = []
    with running_operator(folder) as operator:
        for size_mb in (20, large_mb):
            path = folder / f"{size_mb}.jsonl"
            write_lines(path, size_mb * MB)
            dataset = {"s3_paths": [str(path)], "batch_size": BATCH_SIZE}
            rows.append((f"{size_mb} MB", enqueue(operator, {"delimited_files": dataset}), size_mb))
            path.unlink()
    compare("a file of lines on the disk", rows)


def objects_in_s3(folder: Path, large_mb: int) -> None:
    """Compare a small and a large object."""
    rows = []
    for size_mb in (20, large_mb):
        with synthetic_s3(1, size_mb * MB) as env, running_operator(folder / f"s3-{size_mb}", env) as operator:
            dataset = {"s3_paths": ["s3://bucket/data/"], "batch_size": BATCH_SIZE}
            rows.append((f"{size_mb} MB", enqueue(operator, {"delimited_files": dataset}), size_mb))
    compare("the same in S3", rows)


def listings(folder: Path, keys: int) -> None:
    """Compare a short and a long listing, and the answers to others meanwhile."""
    dataset = {"s3_paths": ["s3://bucket/data/"], "batch_size": 10}
    rows = []
    for count in (1000, keys):
        with synthetic_s3(count, 100) as env, running_operator(folder / f"keys-{count}", env) as operator:
            job, over = operator.submit([1]), threading.Event()
            operator.wait(job)
            threading.Timer(3, over.set).start()
            idle, busy = answer_times(operator, job, over), list[float]()
            result = enqueue(operator, {"file_path_lister": dataset}, busy)
            rows.append((f"{count} keys", result, 0))
    compare("a listing in S3", rows)
    print(f"\nGET of a status\n  idle operator          {quantiles(idle)}\n  while keys are listed  {quantiles(busy)}")


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--large-mb", type=int, default=2000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for part, size in (
            (files_on_disk, options.large_mb),
            (objects_in_s3, options.large_mb),
            (listings, options.keys),
        ):
            folder = Path(name) / part.__name__
            folder.mkdir()
            part(folder, size)


if __name__ == "__main__":
    main()
