"""What of the machine is ours: a container, or a service, may be held to less than all of it."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


def our_cores(all_cores: int, *, root: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Count the cores whose time we get, at least one: of 2.5, two."""
    shares = [share for group in _groups("cpu", root, own) if (share := _cpu_share(group)) is not None]
    return max(1, int(min([all_cores, *shares])))


def our_memory_bytes(all_bytes: int, *, root: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Give how much memory we may have together with all that we start."""
    limits = [limit for group in _groups("memory", root, own) if (limit := _memory_limit(group)) is not None]
    return min([all_bytes, *limits])


def _groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Give the folder of our own control group, of version 1 or 2, and those above it: the limits of all hold."""
    lines: list[str] = []
    with suppress(OSError):
        lines = own.read_text(encoding="utf-8").splitlines()
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            top = root / controllers if (root / controllers).is_dir() else root / controller
        elif number == "0" and not controllers:
            top = root / "unified" if (root / "unified").is_dir() else root
        else:
            continue
        group = top / path.lstrip("/")
        yield from (group, *(above for above in group.parents if above.is_relative_to(top)))


def _cpu_share(group: Path) -> float | None:
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # `max` is no number
            return int((group / name).read_text(encoding="ascii"))
    return None
