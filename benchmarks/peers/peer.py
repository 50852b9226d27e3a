"""What a peer must be able to do, and the plumbing that peers with workers of their own share."""

import importlib.util
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from benchmarks.options import ROOT, WORKERS
from benchmarks.work import Ended

WARM_BATCHES = 20
WARM_SECONDS = 60
STOP_SECONDS = 20

LoadRun = Callable[[Load], float]


class Installed:
    """Something that is here, or is not."""

    name: str
    needs: Sequence[str] = ()
    """Modules that must be installed."""

    def missing(self) -> str:
        """Say what it lacks here; nothing if it can run."""
        lacking = [name for name in self.needs if importlib.util.find_spec(name) is None]
        return f"{', '.join(lacking)} is not installed" if lacking else ""


class Peer(Installed, ABC):
    """Something that runs a function over batches in two processes."""

    @abstractmethod
    def running(self, task: str, folder: Path) -> AbstractContextManager[LoadRun]:
        """Start and warm it for a task of `benchmarks.work`; give what runs a load and tells the seconds it took."""


class Server(Installed, ABC):
    """Something that answers requests with what a function says to their JSON."""

    requests: int
    """How many it is sent in a turn: a few seconds of them."""

    @abstractmethod
    def running(self, processes: int, folder: Path) -> AbstractContextManager[str]:
        """Start so many processes that call `benchmarks.empty.predict`; give the URL to which JSON is sent."""


def batches_of(task: str, load: Load) -> Iterable[Any]:
    """Give what a peer is handed: items that are in memory before the clock starts, or lines that it reads."""
    return load.lines() if task == "parse" else load.items()


def warm_batches(task: str) -> list[Any]:
    """Give the few batches that come before the clock."""
    return [b"[1.5]\n" if task == "parse" else [[0.1, 0.2, 0.3, 0.4]]] * WARM_BATCHES


def warm(task: str, send: Callable[[Any], object], ended: Ended) -> None:
    """Send the few batches that come before the clock, again until each worker has had one: some start later."""
    batches, give_up_at = warm_batches(task), time.monotonic() + WARM_SECONDS
    while ended.workers() < WORKERS:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{ended.workers()} of {WORKERS} workers had done anything after {WARM_SECONDS} s")
        timed_run(send, ended, batches, len(batches))


@contextmanager
def worker_processes(
    commands: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a peer's own worker commands, given as modules of this Python with arguments."""
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, **variables, "PYTHONPATH": python_path}
    with (folder / "workers.log").open("ab") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", *command], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            for command in commands
        ]
        try:
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def timed_run(send: Callable[[Any], object], ended: Ended, batches: Iterable[Any], count: int) -> float:
    """Send batches one by one; give the seconds from the first call until the last batch has been done."""
    target = ended.count() + count
    look_seconds = 0.0001 if count == 1 else 0.002  # looking takes time from those that work
    began_at = time.perf_counter()
    for batch in batches:
        send(batch)
    ended.wait(target, look_seconds)
    return time.perf_counter() - began_at
