"""cortex as a contestant: a real operator in a process of its own, driven over HTTP as a user's program would."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from benchmarks.connection import Connection
from benchmarks.load import Load
from benchmarks.options import ROOT, WORKERS

sys.path.insert(0, str(ROOT / "tests"))

from operator_process import OperatorProcess

WARM_BATCHES = 20
WAIT_SECONDS = 30
GOING_ON = frozenset({"status_enqueuing", "status_running"})

NOTHING = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        pass
"""

ROWS = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        return payload
"""


class Service:
    """An operator, and jobs on it."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.process = OperatorProcess(folder / "data", *options, env=env or {})
        self.http = Connection("http://127.0.0.1")

    def start(self) -> "Service":
        """Start the operator, and connect to it."""
        self.process.start()
        self.http = Connection(self.process.address)
        return self

    @property
    def pid(self) -> int:
        """Which process the operator is."""
        return self.process.process.pid if self.process.process else 0

    def stop(self) -> None:
        """Stop it without a grace period."""
        self.http.close()
        if self.process.process is not None:
            self.process.stop(at_once=True)

    def submit(self, request: Mapping[str, Any], api: str = "api") -> str:
        """Submit a job; give its id."""
        return str(self.http.post(f"/{api}", _body(request))["job_id"])

    def list_files(self, request: Mapping[str, Any], api: str = "api") -> None:
        """Have it list the files of a job, by a dry run: what lists and cuts files is warm then, as peers are."""
        self.http.post_for_text(f"/{api}?dryRun=true", _body(request))

    def status(self, job: str, api: str = "api", query: str = "") -> dict[str, Any]:
        """Give the status of a job."""
        status: dict[str, Any] = self.http.get(f"/{api}/{job}{query}")["job_status"]
        return status

    def wait(self, job: str, api: str = "api") -> dict[str, Any]:
        """Wait as a client does until the end is recorded: by requests that are answered when it is."""
        status = self.status(job, api, f"?wait={WAIT_SECONDS}")
        while status["status"] in GOING_ON:
            status = self.status(job, api, f"?wait={WAIT_SECONDS}")
        if status["status"] != "status_succeeded":
            raise RuntimeError(f"the job ended as {status}")
        return status

    def run(self, request: Mapping[str, Any], api: str = "api") -> float:
        """Run a job; give the seconds from before its submission until the client sees that it has ended."""
        began_at = time.perf_counter()
        self.wait(self.submit(request, api), api)
        return time.perf_counter() - began_at

    def run_from_first_batch(self, request: Mapping[str, Any], api: str = "api") -> float:
        """Run a job; give the seconds from its first `processing batch` line to its recorded end."""
        job = self.submit(request, api)
        status = self.wait(job, api)
        log = self.http.stream(f"/{api}/{job}/logs").read().decode()
        first_batch_at = min(line[:26] for line in log.splitlines() if ":INFO:processing batch " in line)
        return instant(status["end_time"].rstrip("Z")) - instant(first_batch_at.replace(" ", "T"))


def _body(request: Mapping[str, Any]) -> bytes:
    return json.dumps({"workers": WORKERS, **request}).encode()


def instant(text: str) -> float:
    """Read an instant of the API or of the log, both in UTC."""
    return datetime.fromisoformat(text[:26]).replace(tzinfo=UTC).timestamp()


def lines_of(load: Load, **more: Any) -> dict[str, Any]:
    """Ask for a job over the lines of a load."""
    return {"delimited_files": {"s3_paths": [str(load.path)], "batch_size": load.batch_size}, **more}


def items_of(items: Sequence[Any], batch_size: int = 1, **more: Any) -> dict[str, Any]:
    """Ask for a job over items."""
    return {"item_list": {"items": list(items), "batch_size": batch_size}, **more}


@contextmanager
def running_service(
    folder: Path, predictor: str, *options: str, env: Mapping[str, str] | None = None, **what: Any
) -> Iterator[Service]:
    """Run an operator on data of its own, with one API that has run a job of a few batches."""
    service = Service(Path(mkdtemp(dir=folder)), *options, env=env).start()
    try:
        service.process.deploy(predictor, **what)
        service.run(items_of([0] * WARM_BATCHES))
        yield service
    finally:
        service.stop()
