"""The processes of this machine, which end at any moment: also between being listed and being asked for anything."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from waiting import wait_until


def name_of(process: psutil.Process) -> str:
    """Give the name of a process; nothing for one that has just ended."""
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def words_of(process: psutil.Process) -> list[str]:
    """Give the command of a process; nothing for one that has just ended or waits to be reaped."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []


def open_files_of(pid: int) -> list[str]:
    """Give what a process has open, as the kernel names it, but for what it closes meanwhile."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(descriptor.readlink()))
    return found


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(*processes: psutil.Process) -> None:
    """Kill -9 these, of which some may end by themselves meanwhile, or with the others."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_one(find: Callable[[], Sequence[psutil.Process]]) -> psutil.Process:
    """Kill -9 the first of those that are found, as soon as there is one that has not ended meanwhile; give it."""
    killed: list[psutil.Process] = []

    def is_done() -> bool:
        with suppress(psutil.NoSuchProcess, IndexError):
            victim = find()[0]
            victim.kill()
            killed.append(victim)
        return bool(killed)

    wait_until(is_done, "one was killed")
    return killed[0]


def children_running(word: str, of: int | None = None) -> list[psutil.Process]:
    """Give the living children of a process, by default of this one, that have this word in their command."""
    return [child for child in psutil.Process(of).children() if word in words_of(child)]


def children_named(name: str, of: int | None = None) -> list[psutil.Process]:
    """Give the living processes of this name that come from a process, by default from this one.

    Those that such a process has forked for a part of its work do not count, nor those of operators that it runs.
    """
    found = []
    for child in psutil.Process(of).children():
        with suppress(psutil.NoSuchProcess):
            if child.name() == name and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
            elif "operator" not in child.cmdline():
                found += children_named(name, child.pid)
    return found
