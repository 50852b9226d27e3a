"""Ray Data: it reads the file itself, and the job is gone with its driver.

From its documentation ("Loading data", "Transforming data"): `read_text` for lines, `map_batches` with the batch size
of the workload and as many concurrent tasks as there are workers, consumed by `materialize`. The dashboard and usage
statistics are off. A first small dataset warms it; what it takes to plan and start each execution is part of its time,
since every job pays for it.
"""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import WARM_BATCHES, LoadRun, Peer
from benchmarks.work import parse


class RayData(Peer):
    """See the module."""

    name = "Ray Data"
    needs = ("ray", "pyarrow")

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray
        import ray.data

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        strategy = ray.data.TaskPoolStrategy(size=WORKERS)

        def do(rows: dict[str, Any]) -> dict[str, Any]:
            if task == "parse":
                parse("\n".join(rows["text"]))
            return {"done": [len(rows["text"])]}

        def run(load: Load) -> float:
            part = load.path
            if not load.is_whole:  # it reads whole files
                part = folder / "part.jsonl"
                with part.open("wb") as file:
                    file.writelines(load.lines())
            began_at = time.perf_counter()
            lines = ray.data.read_text(str(part))
            lines.map_batches(do, batch_size=load.batch_size, compute=strategy).materialize()
            return time.perf_counter() - began_at

        try:
            warm = folder / "warm.jsonl"
            warm.write_bytes(b"[1.5]\n" * WARM_BATCHES)
            run(Load(path=warm, batches=WARM_BATCHES, batch_size=1))
            yield run
        finally:
            ray.shutdown()
