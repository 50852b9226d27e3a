"""Which clusters there are on this machine: each has a number, which it holds by the lock of a file."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import IO, Final

import psutil

from processes import is_alive
from ray_process import wait_until

TMP: Final = Path("/tmp")  # noqa: S108 - it is what the nodes have one each of, and sockets need a short path

FOLDER: Final = "CORTEX_TEST_RAY_FOLDER"
"""The variable by which the processes of a cluster are known when they are to be removed."""

_MOST_CLUSTERS: Final = 200


def folder_of(number: int) -> Path:
    """Give the folder of a cluster."""
    return TMP / f"cortex-ray-{number}"


def bridge_of(number: int) -> str:
    """Give the name of its bridge, with which those of its links and namespaces begin."""
    return f"crt{number}"


def claim() -> tuple[int, IO[str]]:
    """Take the first number that nobody has, and remove what those have left who were killed; give it and its lock."""
    claimed: tuple[int, IO[str]] | None = None
    for number in range(1, _MOST_CLUSTERS):
        path = folder_of(number).with_suffix(".lock")
        if claimed is not None and not path.exists():
            continue
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            lock.close()
            continue
        remove(number)
        if claimed is None:
            claimed = number, lock
        else:
            path.unlink()
            lock.close()
    assert claimed is not None, "there are too many clusters on this machine"
    return claimed


def remove(number: int) -> None:
    """Kill the processes of a cluster, and take its networks and files away."""
    folder = folder_of(number)
    wait_until(lambda: not _kill_all(str(folder)), "all processes of the cluster have gone")
    bridge = bridge_of(number)
    for space in Path("/run/netns").glob(f"{bridge}-*"):
        run_ip("netns", "del", space.name)
    for link in Path("/sys/class/net").iterdir():
        if link.name == bridge or link.name.startswith(f"{bridge}n"):
            subprocess.run(
                ["ip", "link", "del", link.name], check=False, capture_output=True
            )  # or it went with a space
    shutil.rmtree(folder, ignore_errors=True)


def _kill_all(folder: str) -> bool:
    """Kill whoever has the folder in its environment, but for this process; tell whether there was one."""
    found = False
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and is_alive(process) and process.environ().get(FOLDER) == folder:
                process.kill()
                found = True
                with contextlib.suppress(psutil.TimeoutExpired):
                    process.wait(0)
    return found


def run_ip(*words: str) -> None:
    """Run `ip` with these words. Fails where it does."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
