"""The names that the service gives to Jobs, Batches and Workers."""

from collections.abc import Callable
from uuid import UUID, uuid5

from cortex.domain.isolation import Part

_MAX_INT64 = 2**63 - 1


def job_id(created_at_ns: int) -> str:
    """Name the Job that was created at this instant: 16 hexadecimal digits, and newer Jobs sort first."""
    return f"{_MAX_INT64 - created_at_ns:016x}"


def job_id_before(earlier: str) -> str:
    """Name a Job that sorts before the given one: for two submissions in one tick, or a clock that was set back."""
    return f"{int(earlier, 16) - 1:016x}"


def batch_id(job: str, batch: int) -> str:
    """Name a Batch of a Job by its number in it.

    The answer is a UUID of version 8 (RFC 9562: free content) that holds both, so it is the same on every attempt
    and need not be stored.
    """
    return batch_ids(job)(batch)


def batch_ids(job: str) -> Callable[[int], str]:
    """Give what names the Batches of a Job as `batch_id` does: what they share is computed once."""
    number = int(job, 16)
    shared = f"{number >> 32:08x}-{number >> 16 & 0xFFFF:04x}-8{number >> 4 & 0xFFF:03x}-"
    variant_and_rest = 0b10 << 62 | (number & 0xF) << 58

    def name(batch: int) -> str:
        low = f"{variant_and_rest | batch:016x}"
        return f"{shared}{low[:4]}-{low[4:]}"

    return name


def part_id(batch: str, part: Part) -> str:
    """Name a Part of the Batch with this id: a UUID of version 5, the same on every attempt."""
    return str(uuid5(UUID(batch), f"{part.first}-{part.end}"))


def log_name(pid: int, node: str | None) -> str:
    """Name a Worker as the log of its Job does: `pid-167`, or `pid-167@NODE` where it runs on another machine.

    On two machines, two may have the same process id.
    """
    return f"pid-{pid}" if node is None else f"pid-{pid}@{node}"
