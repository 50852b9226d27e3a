"""W12: the lines of many small objects in an S3 whose every answer begins after 10 ms, an empty predict.

Beside it a script that a user would write: boto3 lists the objects, gets each and parses its lines, one after the
other, or in a pool of 16 threads.
"""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks.options import Options
from benchmarks.report import Report
from benchmarks.rounds import Contestant, Run, ratio, run_rounds
from benchmarks.service import NOTHING
from benchmarks.synthetic_s3 import running_s3
from benchmarks.turns import CORTEX, ready_service

OBJECT_BYTES = 20_000
ANSWER_SECONDS = 0.01
THREADS = 16
ONE_BY_ONE, THREADED = "boto3, one after the other", f"boto3, {THREADS} threads"
MUST = 0.5


def run(report: Report, options: Options) -> None:
    """Compare a job with the scripts."""
    keys = options.batches(500, 50)
    report.title(f"W12 objects: {keys} of {OBJECT_BYTES:,} bytes in S3, each answer after {ANSWER_SECONDS} s")
    contestants = [
        Contestant(name=CORTEX, units=keys, ready=partial(_ready_cortex, options.folder, keys)),
        Contestant(name=ONE_BY_ONE, units=keys, ready=partial(_ready_script, keys, 1)),
        Contestant(name=THREADED, units=keys, ready=partial(_ready_script, keys, THREADS)),
    ]
    series = run_rounds(contestants, options.rounds)
    report.rates("all of them", series, THREADED, unit="objects")
    report.verdict(12, f"W12 x {THREADED}", ratio(series[CORTEX], series[THREADED]), MUST)


@contextmanager
def _ready_cortex(folder: Path, keys: int) -> Iterator[Run]:
    dataset = {"s3_paths": ["s3://bucket/data/"], "batch_size": 100}
    with (
        running_s3(keys, OBJECT_BYTES, ANSWER_SECONDS) as env,
        ready_service(folder, NOTHING, {"delimited_files": dataset}, env) as run,
    ):
        yield run


@contextmanager
def _ready_script(keys: int, threads: int) -> Iterator[Run]:
    import boto3
    from botocore.config import Config

    with running_s3(keys, OBJECT_BYTES, ANSWER_SECONDS) as env:
        os.environ.update(env)
        s3 = boto3.client("s3", config=Config(max_pool_connections=threads))

        def run() -> float:
            began_at = time.perf_counter()
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="data/")
            names = [entry["Key"] for page in pages for entry in page["Contents"]]
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(partial(_parse, s3), names))
            return time.perf_counter() - began_at

        yield run


def _parse(s3: Any, key: str) -> int:
    body = s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    return len([orjson.loads(line) for line in body.splitlines()])
