"""How the peers that are Ray's connect to it, or start one for themselves."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.options import WORKERS


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Make this process the driver of the cluster there, or of one of its own, and say nothing of it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if address is None:
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    else:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
