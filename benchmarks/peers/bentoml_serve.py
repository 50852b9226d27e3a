"""BentoML: `bentoml serve` of a service with so many workers.

From its documentation ("Parallelize requests handling", "Configurations", "Create online API Services"): `workers`, an
`async` method, which runs in the event loop and needs no thread, and the body as its one positional argument. Its
access log and metrics are off, which is in its favour; so are usage statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.peer import Server, worker_processes
from benchmarks.peers.starlette_uvicorn import free_port

BENTOML = "BentoML"


class BentoMLServe(Server):
    """See the module."""

    name = BENTOML
    needs = ("bentoml",)
    requests = 4_000

    @contextmanager
    def running(self, processes: int, folder: Path) -> Iterator[str]:
        port = free_port()
        command = ["bentoml", "serve", "benchmarks.peers.bentoml_app:Predictor", "--port", str(port)]
        variables = {"BENCHMARK_PROCESSES": str(processes), "BENTOML_DO_NOT_TRACK": "True"}
        with worker_processes([[*command, "--host", "127.0.0.1"]], folder, variables):
            yield f"http://127.0.0.1:{port}/predict"
