"""How far one operator goes: a real one, with thousands of workers of which only `predict` is simulated.

    python -m benchmarks scale [--workers 100 1000 5000] [--batches 10000000] [--json FILE]

Operator, ledger, dispatch, engine and frames are the real ones, in a real operator process; `simulated_workers.py`
says what stands in for the workers. For each number of workers, a job of files with one item per batch is submitted
over HTTP; while it runs, the CPU time of the operator's process is read, and in its midst the operator is killed with
-9 and started again. CPU times are of the operator alone, and say more than rates: simulation and operator share the
machine.
"""

import argparse
import cProfile
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import psutil

from benchmarks.simulated_workers import (
    BATCH_SECONDS,
    BATCHES,
    CONNECTS,
    COUNTERS,
    GONE,
    HOSTS,
    LEASES,
    READY,
    Counters,
)
from cortex.engines.process_table import supervisors_of
from operator_process import OperatorProcess

SECONDS: Final = 25.0
"""How long a job is to run where the number of its batches is not given."""

PREDICTOR: Final = """
class PythonPredictor:
    def __init__(self, config):
        pass

    def predict(self, payload):
        pass
"""
_MOST_WORKERS: Final = "CORTEX_SCALE_MOST_WORKERS"
_PROFILE: Final = "CORTEX_SCALE_PROFILE"
_POLL_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 2.0  # how often it is looked whether all are still there
_GIVE_UP_SECONDS: Final = 900.0
_SETTLED_SHARE: Final = 0.2
_RESTART_SHARE: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured."""

    workers: int
    batches: int
    batch_seconds: float
    hosts: int
    profile: Path | None = None


@dataclass(slots=True, kw_only=True)
class Measured:
    """What came of it. CPU times are those of the operator's process."""

    workers: int
    batches: int
    start_seconds: float = 0.0  # from the first worker to the last one that is ready
    start_cpu_us_per_worker: float = 0.0
    leases_per_second: float = 0.0  # while all workers work
    lease_seconds: float = 0.0  # how long a lease was then
    cpu_us_per_lease: float = 0.0
    cpu_share: float = 0.0  # of one core
    listening_seconds: float = 0.0  # after kill -9: from the start of the next operator to its first answer
    listening_cpu_seconds: float = 0.0
    restart_seconds: float = 0.0  # ... until every worker is back
    restart_cpu_seconds: float = 0.0
    tail_leases: int = 0  # from the restart to the end
    end_cpu_us_per_worker: float = 0.0  # from the last batch to the recorded end
    job_seconds: float = 0.0
    idle_mb: float = 0.0  # PSS of the operator before the job
    peak_mb: float = 0.0  # while it runs
    notes: list[str] = field(default_factory=list)


class NotSimulated(Exception):
    """Some part of the simulation is gone, or was not taken for what it stands in for."""


class Operator:
    """The operator under test and its simulated supervisor, on a data directory of their own."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._data = folder / "data"
        self._supervisor: subprocess.Popen[bytes] | None = None
        env = {
            HOSTS: str(plan.hosts),
            BATCH_SECONDS: str(plan.batch_seconds),
            COUNTERS: str(folder / "counters"),
            _MOST_WORKERS: str(plan.workers),
        }
        if plan.profile is not None:
            env[_PROFILE] = str(plan.profile)
        self.env = {**os.environ, **env}
        self.counters = Counters(folder / "counters", plan.hosts)
        self.counters.create()
        self.process = OperatorProcess(self._data, "--grace-period", "0", env=env, program=(__file__,))

    @contextmanager
    def running(self) -> Iterator["Operator"]:
        """Run both."""
        self.process.start()
        script = Path(__file__).with_name("simulated_workers.py")
        channel = self._data / "channel.sock"
        command = [sys.executable, str(script), "supervisor", str(channel), "simulated"]
        with subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE) as supervisor:
            try:
                if supervisor.stdout is not None:
                    supervisor.stdout.readline()  # it is connected
                self._supervisor = supervisor
                yield self
            finally:
                self.process.stop(at_once=True)
                supervisor.terminate()

    @property
    def cpu_seconds(self) -> float:
        """The CPU time of the operator's process so far; its children are not in it."""
        times = self._ps.cpu_times()
        return times.user + times.system

    @property
    def pss_mb(self) -> float:
        """The memory of the operator's process."""
        return self._ps.memory_full_info().pss / 2**20

    @property
    def _ps(self) -> psutil.Process:
        return psutil.Process(self.process.process.pid if self.process.process else None)

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait for the counters to say so, without asking the operator. Raises NotSimulated, TimeoutError."""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        look_at = 0.0
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not happen that {what}: {self.process.errors()}")
            if time.monotonic() > look_at:
                self._see_that_all_are_there(what)
                look_at = time.monotonic() + _LOOK_SECONDS
            time.sleep(_POLL_SECONDS)

    def _see_that_all_are_there(self, what: str) -> None:
        """Nothing more would come of a wait if one were gone, or if the operator had not taken to our supervisor."""
        operator, simulated = self.process.process, self._supervisor
        problem = None
        if operator is None or operator.poll() is not None:
            problem = "the operator has ended"
        elif simulated is None or simulated.poll() is not None:
            problem = "the simulated supervisor has ended"
        elif others := set(supervisors_of(self._data / "channel.sock")) - {simulated.pid}:
            problem = (
                f"the operator has started a supervisor of its own (pid {min(others)}): what the simulated one says in"
                " its `hello` (simulated_workers.py) lacks something that the operator wants of a supervisor"
            )
        if problem:
            raise NotSimulated(f"{problem}, before {what}: {self.process.errors()}")


def measure(plan: Plan) -> Measured:
    """Run one job with simulated workers; give what it has cost."""
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "items.jsonl"
        with lines.open("wb") as file:
            for begin in range(0, plan.batches, 10**6):
                file.write(b"1\n" * min(10**6, plan.batches - begin))
        with Operator(plan, Path(folder)).running() as operator:
            return _measure(plan, operator, lines)


def _measure(plan: Plan, operator: Operator, lines: Path) -> Measured:
    total, until = operator.counters.total, operator.wait_until
    measured = Measured(workers=plan.workers, batches=plan.batches)
    operator.process.deploy(PREDICTOR)
    measured.idle_mb = operator.pss_mb
    files = {"s3_paths": [str(lines)], "batch_size": 1}
    answer = operator.process.http.post("/api", json={"workers": plan.workers, "delimited_files": files})
    answer.raise_for_status()
    job = answer.json()["job_id"]

    until(lambda: total(CONNECTS) > 0, "the first worker was there")
    began_at, cpu = time.monotonic(), operator.cpu_seconds
    until(lambda: total(READY) == plan.workers, "all workers were ready")
    measured.start_seconds = time.monotonic() - began_at
    start_cpu_us, early_leases = 1e6 * (operator.cpu_seconds - cpu), total(LEASES)

    until(lambda: total(BATCHES) >= _SETTLED_SHARE * plan.batches, "work was under way")
    at, cpu, leases, batches = time.monotonic(), operator.cpu_seconds, total(LEASES), total(BATCHES)
    until(lambda: total(BATCHES) >= _RESTART_SHARE * plan.batches, "much of it was done")
    seconds, leases = time.monotonic() - at, total(LEASES) - leases
    measured.leases_per_second = leases / seconds
    measured.lease_seconds = (total(BATCHES) - batches) * plan.batch_seconds / max(leases, 1)
    measured.cpu_us_per_lease = 1e6 * (operator.cpu_seconds - cpu) / max(leases, 1)
    measured.cpu_share = (operator.cpu_seconds - cpu) / seconds
    measured.start_cpu_us_per_worker = (start_cpu_us - early_leases * measured.cpu_us_per_lease) / plan.workers
    measured.peak_mb = operator.pss_mb

    connects, leases = total(CONNECTS), total(LEASES)
    if plan.profile is None:
        operator.process.kill()
        at = time.monotonic()
        operator.process.start()
        measured.listening_seconds, measured.listening_cpu_seconds = time.monotonic() - at, operator.cpu_seconds
        # Of a job that was over too soon, nobody need come back.
        until(lambda: total(CONNECTS) >= connects + plan.workers or total(GONE) > 0, "all workers were back")
        measured.restart_seconds, measured.restart_cpu_seconds = time.monotonic() - at, operator.cpu_seconds

    until(lambda: total(BATCHES) >= plan.batches, "every batch had ended")
    at, cpu = time.monotonic(), operator.cpu_seconds
    measured.tail_leases = total(LEASES) - leases
    until(lambda: total(GONE) == plan.workers, "all workers had ended")
    measured.peak_mb = max(measured.peak_mb, operator.pss_mb)
    status = operator.process.wait(job)
    measured.end_cpu_us_per_worker = 1e6 * (operator.cpu_seconds - cpu) / plan.workers
    measured.job_seconds = time.monotonic() - began_at
    if status["status"] != "status_succeeded":
        measured.notes.append(f"the job ended as {status['status']}: {status.get('status_reason')}")
    if (ran := total(BATCHES)) != plan.batches:
        measured.notes.append(f"{ran - plan.batches} batches ran twice")
    return measured


COLUMNS: Final[Sequence[tuple[str, str, str]]] = (
    ("workers", "workers", ",d"),
    ("batches", "batches", ",d"),
    ("leases/s", "leases_per_second", ",.0f"),
    ("lease s", "lease_seconds", ".2f"),
    ("CPU us/lease", "cpu_us_per_lease", ",.0f"),
    ("CPU share", "cpu_share", ".0%"),
    ("start s", "start_seconds", ".1f"),
    ("CPU us/start", "start_cpu_us_per_worker", ",.0f"),
    ("CPU us/end", "end_cpu_us_per_worker", ",.0f"),
    ("idle MB", "idle_mb", ".0f"),
    ("peak MB", "peak_mb", ".0f"),
    ("listening s", "listening_seconds", ".2f"),
    ("CPU s", "listening_cpu_seconds", ".2f"),
    ("all back s", "restart_seconds", ".1f"),
    ("CPU s", "restart_cpu_seconds", ".1f"),
    ("tail leases", "tail_leases", ",d"),
    ("job s", "job_seconds", ".0f"),
)


def table(rows: Sequence[Measured]) -> str:
    """Write what was measured as a table."""
    lines = ["| " + " | ".join(title for title, _, _ in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = (format(getattr(row, name), how) for _, name, how in COLUMNS)
        lines.append("| " + " | ".join(cells) + " |" + "".join(f" ({note})" for note in row.notes))
    return "\n".join(lines)


def be_operator() -> None:
    """Be `cortex operator` on a machine that has places for all."""
    from cortex import parts
    from cortex.cli.main import main as cortex
    from cortex.operator.machine import Machine

    class LargeMachine(Machine):
        most_workers = int(os.environ[_MOST_WORKERS])
        millicores = 1000 * most_workers

    choices: Any = parts
    choices.Machine = LargeMachine
    if profile := os.environ.get(_PROFILE):
        profiler = cProfile.Profile()
        try:
            profiler.runcall(cortex)
        finally:
            profiler.dump_stats(profile)
    else:
        cortex()


def main(choices: Sequence[str]) -> None:
    """Measure each plan and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--batches", type=int, help="of each job; by default as many as take about 25 seconds")
    parser.add_argument("--batch-seconds", type=float, default=0.05)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--profile", type=Path, help="of the operator, which is not killed then, to this file")
    arguments = parser.parse_args(choices)
    rows = []
    for workers in arguments.workers:
        plan = Plan(
            workers=workers,
            batches=arguments.batches or int(workers * SECONDS / arguments.batch_seconds),
            batch_seconds=arguments.batch_seconds,
            hosts=arguments.hosts,
            profile=arguments.profile,
        )
        rows.append(measure(plan))
        print(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[-1], flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    if sys.argv[1:2] == ["operator"]:
        be_operator()
    else:
        main(sys.argv[1:])
