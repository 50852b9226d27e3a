"""The names that the service gives to Jobs and Batches."""

from uuid import UUID, uuid5

from cortex.domain.isolation import Part

_MAX_INT64 = 2**63 - 1
_LOW_DIGITS = 16


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
    return batch_id_prefix(job) + batch_id_suffix(job, batch)


def batch_id_prefix(job: str) -> str:
    """Give the part of `batch_id` that all Batches of a Job share: a Worker computes it once."""
    number = int(job, 16)
    return f"{number >> 32:08x}-{number >> 16 & 0xFFFF:04x}-8{number >> 4 & 0xFFF:03x}-"


def batch_id_suffix(job: str, batch: int) -> str:
    """Give the part of `batch_id` that differs: variant, the Job's last four bits, the Batch's number."""
    low = f"{0b10 << 62 | (int(job[-1], 16)) << 58 | batch:0{_LOW_DIGITS}x}"
    return f"{low[:4]}-{low[4:]}"


def part_id(batch: str, part: Part) -> str:
    """Name a Part of the Batch with this id: a UUID of version 5, the same on every attempt."""
    return str(uuid5(UUID(batch), f"{part.first}-{part.end}"))
