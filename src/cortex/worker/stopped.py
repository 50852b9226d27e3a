"""Processes that are stopped, by a signal or a debugger: they live, and do nothing until somebody lets them go on."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex.domain.silence import BEAT_SECONDS, Silence

_STATE: Final = 0  # fields of /proc/PID/stat, counted from after the name
_USER_TICKS: Final = 11
_SYSTEM_TICKS: Final = 12
_STOPPED: Final = frozenset("Tt")
_DEAD: Final = frozenset("ZX")


@dataclass(slots=True)
class Stopped:
    """Looks whether processes are stopped; on machines without /proc, none is."""

    proc: Path
    _silence: Silence[tuple[str, int]] = field(default_factory=Silence)
    _dead: Silence[str] = field(default_factory=Silence)

    def look(self, pids: Mapping[str, int], *, seconds: float) -> list[str]:
        """Look, a beat after the last time, at these processes; give those that have been stopped for so long."""
        found = {(name, ticks) for name, pid in pids.items() if (ticks := self._ticks_if_stopped(pid)) is not None}
        return [name for name, _ in self._silence.look(found, seconds=seconds)]

    def look_for_dead(self, pids: Mapping[str, int]) -> list[str]:
        """Look, a beat after the last time, at children that were not reaped; give those that have long died.

        A debugger that holds a process also keeps its death from the parent, until it lets go.
        """
        dead = [name for name, pid in pids.items() if self._has_died(pid)]
        return self._dead.look(dead, seconds=BEAT_SECONDS)  # the death of any other is told before the second look

    def _has_died(self, pid: int) -> bool:
        """Tell whether a process waits to be reaped."""
        return (self.proc / str(pid)).exists() and is_gone(self.proc, pid)

    def _ticks_if_stopped(self, pid: int) -> int | None:
        """Give how long a process that is stopped has run: one that has since the last look was not stopped all along.

        Tools that slow a process down stop it many times a second, and let it go on each time.
        """
        try:
            fields = _fields(self.proc / str(pid) / "stat")
        except OSError:
            return None  # it has ended
        state, user, system = (fields[field] for field in (_STATE, _USER_TICKS, _SYSTEM_TICKS))
        return int(user) + int(system) if state in _STOPPED else None


def is_gone(proc: Path, pid: int) -> bool:
    """Tell whether no thread of a process will ever run again: the first one may have died alone."""
    states = set()
    try:
        for thread in (proc / str(pid) / "task").glob("*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                states.add(_fields(thread)[_STATE])
    except OSError:
        return False  # it is ending just now
    return states <= _DEAD


def _fields(stat: Path) -> list[str]:
    return stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
