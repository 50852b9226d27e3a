"""A Ray cluster of two nodes on this machine: a head without CPUs, and two nodes with one CPU each.

It is nobody else's: its folder, its ports and its processes are its own, and it is ended by their ids. `ray stop` would
end every Ray of the machine. Whether a token is asked for is said to each process: otherwise it depends on what another
program has left in the home directory.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import psutil

from benchmarks.options import ROOT, WORKERS
from cortex.engines.process_table import is_there

NODE_MEMORY_BYTES: Final = 2 * 10**9  # for each: else each would have all of the machine's
STORE_BYTES: Final = 300 * 10**6
START_SECONDS: Final = 90
LOOK_SECONDS: Final = 0.05
STOP_SECONDS: Final = 10
VARIABLES: Final = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
"""What every process that speaks to it must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayCluster:
    """One that runs: `address` is that of its head, `processes` are those from which all others come."""

    address: str
    processes: tuple[int, ...]


def missing() -> str:
    """Say what a cluster lacks here; nothing if it can run."""
    return "" if importlib.util.find_spec("ray") else "ray is not installed"


@contextmanager
def running_cluster(folder: Path) -> Iterator[RayCluster]:
    """Run a cluster; what its nodes keep lies in the folder, and what it needs is in this process's environment."""
    os.environ |= VARIABLES | {"CORTEX_NODE_FOLDER": str(folder / "node")}
    files = Path(mkdtemp(prefix="ray-"))  # with a short name: sockets lie in it
    address = f"127.0.0.1:{_free_port()}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        head = ["--head", f"--port={address.rpartition(':')[2]}", "--num-cpus=0", f"--temp-dir={files}"]
        head += [f"--dashboard-port={_free_port()}", f"--ray-client-server-port={_free_port()}"]
        _start(started, files, [*head, "--include-dashboard=true", "--disable-usage-stats"])
        for _ in range(WORKERS):  # one after the other: two that start at once may take the same ports
            _start(started, files, [f"--address={address}", "--num-cpus=1"])
        yield RayCluster(address=address, processes=tuple(process.pid for process in started))
    finally:
        _end(started, files)
        shutil.rmtree(files, ignore_errors=True)


def _start(started: list[subprocess.Popen[bytes]], files: Path, options: Sequence[str]) -> None:
    """Start a node and wait until it is one; its workers find the benchmarks, as the driver does."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
    sizes = [f"--memory={NODE_MEMORY_BYTES}", f"--object-store-memory={STORE_BYTES}"]
    ports = [f"--dashboard-agent-listen-port={_free_port()}", f"--metrics-export-port={_free_port()}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    path = files / f"{len(started)}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *sizes, *ports], env=env, cwd=files, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    started.append(process)
    _wait(process, path)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a node says that it has started."""
    give_up_at = time.monotonic() + START_SECONDS
    while "Ray runtime started" not in (text := log.read_text()):
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise RuntimeError(f"a node of the Ray cluster did not start: {text}")
        time.sleep(LOOK_SECONDS)


def _end(started: Sequence[subprocess.Popen[bytes]], files: Path) -> None:
    """End the nodes with all that came from them, and what has lost its parent but has their folder in its command."""
    family = [child for process in started for child in _children(process.pid)]
    for process in started:
        process.terminate()
    psutil.wait_procs([psutil.Process(process.pid) for process in started if process.poll() is None], STOP_SECONDS)
    left = [process for process in psutil.process_iter() if str(files) in " ".join(_command(process))]
    for each in [*family, *left]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    for process in started:
        process.kill()
        process.wait()
    while any(
        process.is_running() and is_there(process.pid) for process in [*family, *left]
    ):  # large ones take a moment to go
        time.sleep(LOOK_SECONDS)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
