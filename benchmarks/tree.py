"""What this process and all that it has started use: CPU time, and memory in which shared pages count once."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOK_SECONDS = 0.02
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError, PermissionError)


def processes(root: int | None = None) -> Iterator[psutil.Process]:
    """Give a process, by default this one, and all below it."""
    top = psutil.Process(root)
    yield top
    yield from top.children(recursive=True)


def cpu_seconds(root: int | None = None) -> float:
    """Give the CPU time of a tree, with that of children that have ended and were waited for."""
    total = 0.0
    for process in processes(root):
        with suppress(*GONE):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of a tree of processes: `pss` counts a shared page once, `rss` in each process that has it.

    `top` is what the topmost of them has of `pss`.
    """

    pss: int = 0
    rss: int = 0
    top: int = 0

    def __or__(self, other: "Memory") -> "Memory":
        """Take the larger of both, figure by figure."""
        return Memory(pss=max(self.pss, other.pss), rss=max(self.rss, other.rss), top=max(self.top, other.top))


def memory(root: int | None = None) -> Memory:
    """Give the memory of a tree in bytes. It costs milliseconds for each large process."""
    pss = rss = top = 0
    for number, process in enumerate(processes(root)):
        with suppress(*GONE):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in {"Pss", "Rss"}:
                    kilobytes = int(value.split()[0])
                    pss, rss = pss + 1024 * kilobytes * (name == "Pss"), rss + 1024 * kilobytes * (name == "Rss")
        top = pss if number == 0 else top
    return Memory(pss=pss, rss=rss, top=top)


class Peak(threading.Thread):
    """The largest memory of a tree while a block runs, and what it was at its start."""

    def __init__(self, root: int | None = None, look_seconds: float = LOOK_SECONDS) -> None:
        super().__init__(daemon=True)
        self._root, self._look_seconds = root, look_seconds
        self._is_over = threading.Event()
        self.before = self.highest = memory(root)

    def run(self) -> None:
        while not self._is_over.wait(self._look_seconds):
            self.highest |= memory(self._root)

    @property
    def growth(self) -> int:
        """By how much the pages, shared ones counted once, have become more."""
        return self.highest.pss - self.before.pss

    def __enter__(self) -> "Peak":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self.join()
