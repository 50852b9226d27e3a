"""W12: the lines of objects in an S3 that is far away, an empty predict.

Many small objects, where every answer begins after 10 ms; and one large object, of which a connection gives 50 MB/s.
Beside it scripts that a user would write. Of the small ones, boto3 gets each and parses its lines, one after the other,
or in a pool of 16 threads. The large one is parsed while it comes; or downloaded by boto3, which takes ten connections
as it comes, and parsed then.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks.load import large_lines
from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import MB, Contestant, Run, ratio, run_rounds
from benchmarks.synthetic_s3 import running_s3
from benchmarks.turns import CORTEX, RunningS3, cortex_on_s3

OBJECT_BYTES = 20_000
ANSWER_SECONDS = 0.01
BYTES_PER_SECOND = 50e6
THREADS = 16
ONE_BY_ONE, THREADED = "boto3, one after the other", f"boto3, {THREADS} threads"
STREAMED, DOWNLOADED = "boto3, one connection", "boto3, downloaded first"
MUST = 0.5
MUST_LARGE = {STREAMED: 2, DOWNLOADED: 0.75}
MUST_GROW_MB = 50.0


def run(report: Report, options: Options) -> None:
    """Compare jobs with the scripts."""
    _run_small(report, options)
    _run_large(report, options)


def _run_small(report: Report, options: Options) -> None:
    keys = options.batches(500, 50)
    report.title(f"W12 objects: {keys} of {OBJECT_BYTES:,} bytes in S3, each answer after {ANSWER_SECONDS} s")
    s3 = partial(running_s3, keys, OBJECT_BYTES, ANSWER_SECONDS)
    contestants = [
        cortex_on_s3(s3, options.folder, keys),
        Contestant(name=ONE_BY_ONE, units=keys, ready=partial(_ready_script, s3, partial(_parse_all, 1))),
        Contestant(name=THREADED, units=keys, ready=partial(_ready_script, s3, partial(_parse_all, THREADS))),
    ]
    series = run_rounds(contestants, options.rounds)
    report.rates("all of them", series, THREADED, unit="objects")
    report.verdict(12, f"W12 x {THREADED}", ratio(series[CORTEX], series[THREADED]), MUST)


def _run_large(report: Report, options: Options) -> None:
    load = large_lines(options.folder, options.batches(20_000, 500), 100)
    size = load.path.stat().st_size
    report.title(f"W12 an object of {size / MB:,.0f} MB in S3, {BYTES_PER_SECOND / MB:.0f} MB/s over each connection")
    s3 = partial(running_s3, 1, load.path, ANSWER_SECONDS, BYTES_PER_SECOND)
    contestants = [
        cortex_on_s3(s3, options.folder, load.batches),
        Contestant(name=STREAMED, units=load.batches, ready=partial(_ready_script, s3, _parse_as_it_comes)),
        Contestant(
            name=DOWNLOADED, units=load.batches, ready=partial(_ready_script, s3, partial(_download, options.folder))
        ),
    ]
    series = run_rounds(contestants, options.rounds, with_memory=True)
    report.rates(f"{load.batches:,} batches", series, DOWNLOADED)
    for peer, must in MUST_LARGE.items():
        report.verdict(12, f"W12 x {peer}", ratio(series[CORTEX], series[peer]), must)
    report.verdict(12, "W12 cortex: MB above idle", series[CORTEX].growth_mb, MUST_GROW_MB, at_least=False)


@contextmanager
def _ready_script(s3: RunningS3, script: Callable[[Any, Sequence[str]], object]) -> Iterator[Run]:
    import boto3
    from botocore.config import Config

    with s3() as env:
        os.environ.update(env)
        client = boto3.client("s3", config=Config(max_pool_connections=THREADS))

        def run() -> float:
            began_at = time.perf_counter()
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="data/")
            script(client, [entry["Key"] for page in pages for entry in page["Contents"]])
            return time.perf_counter() - began_at

        yield run


def _parse_all(threads: int, s3: Any, keys: Sequence[str]) -> None:
    def parse(key: str) -> int:
        body = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
        return len([orjson.loads(line) for line in body.splitlines()])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(parse, keys))


def _parse_as_it_comes(s3: Any, keys: Sequence[str]) -> None:
    for line in s3.get_object(Bucket="bucket", Key=keys[0])["Body"].iter_lines(chunk_size=2**20):
        orjson.loads(line)


def _download(folder: Path, s3: Any, keys: Sequence[str]) -> None:
    path = folder / "downloaded"
    s3.download_file("bucket", keys[0], str(path))
    with path.open("rb") as lines:
        for line in lines:
            orjson.loads(line)
    path.unlink()
