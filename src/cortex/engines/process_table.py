"""Processes of this machine, found and ended by their ids."""

from contextlib import suppress
from pathlib import Path

import psutil


def supervisors_of(channel: Path) -> list[int]:
    """Find the supervisors that serve this channel in the process table, so that none can be overlooked."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if (process.info["cmdline"] or [])[-3:-1] == ["supervisor", str(channel)]]


def commands_below(folder: Path) -> set[Path]:
    """Give the programs below a folder that processes were started from. Looks at every process of the machine."""
    programs = (Path((process.info["cmdline"] or [""])[0]) for process in psutil.process_iter(["cmdline"]))
    return {program for program in programs if program.is_relative_to(folder)}


def process_started_at(pid: int) -> float:
    """Say since when the process with this id runs (seconds since 1970); 0 if there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def kill(pid: int) -> None:
    """Send SIGKILL; nothing to do for a process that is gone."""
    with suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()


def is_there(pid: int, started_at: float | None = None) -> bool:
    """Tell whether a process can still do anything: not if it waits to be reaped, or another one has got its id."""
    try:
        process = psutil.Process(pid)
        if started_at is not None and abs(process.create_time() - started_at) > 1:
            return False
        return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return False
