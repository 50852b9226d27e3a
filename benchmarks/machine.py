"""What the figures were taken on: without it they say nothing."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "cortex",
    "celery",
    "dramatiq",
    "huey",
    "ray",
    "distributed",
    "redis",
    "orjson",
    "msgspec",
    "uvicorn",
    "starlette",
    "httptools",
    "uvloop",
    "bentoml",
)


def describe_machine(folder: Path) -> dict[str, Any]:
    """Describe processors, memory, the disk of a folder, system, versions, and how busy it all is."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 10**9, 1),
        "file_system": _file_system(folder),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": _versions(),
    }


def show_machine(machine: dict[str, Any]) -> None:
    """Print it."""
    print(
        f"{machine['cores']} cores of {machine['processor']}, {machine['memory_gb']} GB, {machine['file_system']}, "
        f"{machine['system']}, Python {machine['python']}, load before {machine['load_before']}"
    )
    print(", ".join(f"{name} {number}" for name, number in machine["versions"].items()))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "an unknown file system"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if program := shutil.which("redis-server"):
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
        found["redis-server"] = answer.partition("v=")[2].partition(" ")[0]
    return found
