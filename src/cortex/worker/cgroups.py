"""Memory limits that the kernel keeps: a control group for each Worker, of version 1 or 2, whichever we may write.

A group is named after the supervisor that made it, so that the next one can tell which are left over.
"""

import contextlib
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from cortex.worker.stopped import is_gone

_PROBE: Final = "probe"
_PROBE_BYTES: Final = 64 * 2**20
_NAME: Final = re.compile(r"cortex-(\d+)-.+")


@dataclass(slots=True)
class Groups:
    """The groups that one supervisor has made below `parent`. See worker.memory.MemoryLimits."""

    parent: Path
    pid: int  # of the supervisor
    _groups: dict[str, Path] = field(default_factory=dict)
    _emptied: list[Path] = field(default_factory=list)  # ended, but not removed yet: somebody in them is still dying

    settings: ClassVar[tuple[tuple[str, str], ...]] = ()
    """What is written into a group, in this order; `{limit}` stands for its bytes."""

    optional: ClassVar[frozenset[str]] = frozenset()
    """Those of the settings that not every kernel has."""

    counter: ClassVar[str] = ""
    """The file that counts, as `oom_kill`, who was ended for going over the limit."""

    def admit(self, worker: str, limit_bytes: int) -> str | None:
        """See MemoryLimits."""
        group = self.parent / f"cortex-{self.pid}-{worker}"
        self.make(group)
        self._groups[worker] = group
        try:
            for name, value in self.settings:
                with contextlib.suppress(*[OSError] if name in self.optional else []):
                    _write(group / name, value.format(limit=limit_bytes))
        except OSError:
            self.dismiss(worker)
            raise
        return str(group / "cgroup.procs")

    def over_limit(self, workers: Mapping[str, int]) -> list[str]:
        """See MemoryLimits. The kernel may have ended only a process that the Worker had started."""
        return [worker for worker in workers if self.has_run_out(worker)]

    def has_run_out(self, worker: str) -> bool:
        """See MemoryLimits."""
        group = self._groups.get(worker)
        try:
            return group is not None and _count(group / self.counter, "oom_kill") > 0
        except OSError:
            return False  # somebody has removed it

    def dismiss(self, worker: str) -> None:
        """See MemoryLimits."""
        if group := self._groups.pop(worker, None):
            self._emptied.append(group)
        self.clear_up()

    def clear_up(self) -> bool:
        """See MemoryLimits."""
        self._emptied = [group for group in self._emptied if not self.end(group)]
        return not self._emptied

    def end(self, group: Path) -> bool:
        """End all that is in a group, and remove it; False if that must be tried again."""
        try:
            for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            self.remove(group)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def remove_leftovers(self, proc: Path) -> None:
        """Remove the groups of supervisors that are gone."""
        for group in self.parent.glob("cortex-*"):
            match = _NAME.fullmatch(group.name)
            if match and is_gone(proc, int(match[1])):
                self._emptied.append(group)
        self.clear_up()

    def do_work(self) -> bool:
        """Tell whether groups can be made here, by making one."""
        try:
            self.admit(_PROBE, _PROBE_BYTES)
            _count(self._groups[_PROBE] / self.counter, "oom_kill")
        except (OSError, ValueError):
            return False
        self.dismiss(_PROBE)
        return self.clear_up()

    def make(self, group: Path) -> None:
        """Make a group; the kernel fills it with its files."""
        group.mkdir()

    def remove(self, group: Path) -> None:
        """Remove a group, with its files."""
        group.rmdir()


class GroupsVersion1(Groups):
    """Groups of the memory controller of version 1."""

    __slots__ = ()
    settings = (("memory.limit_in_bytes", "{limit}"), ("memory.memsw.limit_in_bytes", "{limit}"))
    optional = frozenset({"memory.memsw.limit_in_bytes"})  # so that a Worker does not grow into the swap space
    counter = "memory.oom_control"


class GroupsVersion2(Groups):
    """Groups of version 2."""

    __slots__ = ()
    settings = (("memory.max", "{limit}"), ("memory.swap.max", "0"), ("memory.oom.group", "1"))
    optional = frozenset({"memory.swap.max", "memory.oom.group"})
    counter = "memory.events"


def find_groups(*, root: Path, proc: Path, pid: int) -> Groups | None:
    """Find where we may make groups, and clear up what earlier supervisors have left there; None: nowhere."""
    try:
        own = (proc / "self" / "cgroup").read_text(encoding="utf-8")
    except OSError:
        return None
    for groups in candidates(own, root=root, pid=pid):
        if groups.do_work():
            groups.remove_leftovers(proc)
            return groups
    return None


def candidates(own: str, *, root: Path, pid: int) -> Iterator[Groups]:
    """Give where we might make groups: below our own, which `/proc/self/cgroup` names, so that its limits hold too.

    In a container the folder of our own group may be mounted in place of the root.
    """
    for line in own.splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            folder = root / "memory"
            yield GroupsVersion1(_existing(folder / path.lstrip("/"), folder), pid)
        elif number == "0" and not controllers:
            folder = root / "unified" if (root / "unified").is_dir() else root
            parent = _existing(folder / path.lstrip("/"), folder)
            with contextlib.suppress(OSError):  # refused while processes are in it: then only others may have done it
                _write(parent / "cgroup.subtree_control", "+memory")
            yield GroupsVersion2(parent, pid)


def _existing(folder: Path, otherwise: Path) -> Path:
    return folder if folder.is_dir() else otherwise


def _write(file: Path, value: str) -> None:
    """Write into a file of the kernel's; one that is not there must not be made."""
    opened = os.open(file, os.O_WRONLY)
    try:
        os.write(opened, value.encode())
    finally:
        os.close(opened)


def _count(file: Path, key: str) -> int:
    for line in file.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0
