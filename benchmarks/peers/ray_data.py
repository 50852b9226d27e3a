"""Ray Data: it reads the file itself, and the job is gone with its driver.

From its documentation ("Loading data", "Transforming data"): `read_text` for lines, `map_batches` with the batch size
of the workload and as many concurrent tasks as there are workers, consumed by `materialize`. The dashboard and usage
statistics are off. A first small dataset warms it; what it takes to plan and start each execution is part of its time,
since every job pays for it. A model is kept by the processes that run tasks, which stay from job to job; with actors,
which its documentation has for models, each job would load it again.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import WORKERS
from benchmarks.peers.peer import LoadRun, Peer, warm_batches
from benchmarks.peers.ray_driver import connected
from benchmarks.work import TASKS, parse, parsed

RAY_DATA = "Ray Data"


class RayData(Peer):
    """See the module. Without the address of a cluster it has one of its own, of one node."""

    name = RAY_DATA
    needs = ("ray", "pyarrow")

    def __init__(self, address: str | None = None) -> None:
        self._address = address

    @contextmanager
    def running(self, task: str, folder: Path) -> Iterator[LoadRun]:
        with connected(self._address):
            import ray.data

            logging.getLogger("ray.data").setLevel(logging.ERROR)
            ray.data.DataContext.get_current().enable_progress_bars = False
            strategy = ray.data.TaskPoolStrategy(size=WORKERS)

            def do(rows: dict[str, Any]) -> dict[str, Any]:
                if task == "parse":
                    parse("\n".join(rows["text"]))
                elif task != "nothing":
                    TASKS[task](parsed("\n".join(rows["text"])))
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

            warm = folder / "warm.jsonl"
            warm.write_bytes(b"[0.1,0.2,0.3,0.4]\n" * len(warm_batches(task)))
            for _ in range(WORKERS):
                run(Load(path=warm, batches=len(warm_batches(task)), batch_size=1))
            yield run
