"""Memory limits where no control group can be had: somebody has to look how much Workers use."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_PARENT: Final = 1  # fields of /proc/PID/stat, counted from after the name
_GROUP: Final = 2
_RESIDENT_PAGES: Final = 21


class _Process(NamedTuple):
    parent: int
    group: int
    resident_bytes: int


@dataclass(slots=True)
class Watchdog:
    """Looks at what Workers use. See worker.memory.MemoryLimits.

    A Worker that is quick can use more than it may until the next look; machines without /proc have no limits.
    """

    proc: Path
    _limits: dict[str, int] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)

    def admit(self, worker: str, limit_bytes: int) -> str | None:
        """See MemoryLimits."""
        self._limits[worker] = limit_bytes
        return None

    def over_limit(self, workers: Mapping[str, int]) -> list[str]:
        """See MemoryLimits. What its process group has counts, and what has been started from there."""
        families = self._families(set(workers.values()))
        over = []
        for worker, pid in workers.items():
            limit, found = self._limits.get(worker), families.get(pid, {})
            # What is shared with the template counts in full here, so look closer only where it could matter.
            if limit is not None and sum(found.values()) > limit and self._proportional(found) > limit:
                over.append(worker)
        self._over.update(over)
        return over

    def has_run_out(self, worker: str) -> bool:
        """See MemoryLimits."""
        return worker in self._over

    def dismiss(self, worker: str) -> None:
        """See MemoryLimits."""
        self._limits.pop(worker, None)
        self._over.discard(worker)

    def clear_up(self) -> bool:
        """See MemoryLimits."""
        return True

    def _families(self, leaders: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        """Give the resident bytes of processes, by the leader whose group they have come from and their own id."""
        processes = self._processes()
        families: dict[int, dict[int, int]] = defaultdict(dict)
        for pid, process in processes.items():
            older = process
            for _ in processes:  # they were not read in one moment, so that they might seem to be their own ancestors
                if older.group in leaders:
                    families[older.group][pid] = process.resident_bytes
                    break
                if (parent := processes.get(older.parent)) is None:
                    break
                older = parent
        return families

    def _processes(self) -> Mapping[int, _Process]:
        processes = {}
        for entry in self.proc.glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            processes[int(entry.name)] = _Process(
                int(fields[_PARENT]), int(fields[_GROUP]), int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES
            )
        return processes

    def _proportional(self, resident: Mapping[int, int]) -> int:
        """Count the memory of processes, what several share in equal parts; slow, the kernel walks all their pages."""
        return sum(self._share(pid, otherwise) for pid, otherwise in resident.items())

    def _share(self, pid: int, otherwise: int) -> int:
        try:
            lines = (self.proc / str(pid) / "smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            return otherwise
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), otherwise)
