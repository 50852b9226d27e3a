"""The processes of this machine, which end at any moment: also between being listed and being asked for anything."""

from contextlib import suppress

import psutil


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


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
