"""What the rows of the SQLite ledger stand for."""

import json
import sqlite3
from typing import Any, Final, TypeVar

import msgspec

from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.output import Output
from cortex.domain.policy import Policy
from cortex.domain.source import FileSource
from cortex.storage.ledger import Version

_Section = TypeVar("_Section", FileSource, Policy, Output)

_DEFAULT_POLICY: Final = Policy()
_COUNTS: Final = ("succeeded", "failed", "in_queue", "succeeded_items", "failed_items")


def write_job(job: Job) -> tuple[Any, ...]:
    """Give the columns of a new Job, in the order in which it is inserted."""
    return (
        job.id,
        job.api_name,
        job.api_id,
        job.workers,
        job.workers_min,
        None if job.config is None else json.dumps(job.config),
        _write(job.source),
        None if job.policy == _DEFAULT_POLICY else _write(job.policy),
        _write(job.output),
        job.rerun_of,
        job.origin,
        job.batch_size,
        job.item_count,
        job.total_batch_count,
        job.status,
        job.created_at_ns,
        job.started_at_ns,
    )


def write_counts(counts: Counts | None) -> dict[str, int | None]:
    """Give the columns of how a Job has ended; None for one that has not."""
    if counts is None:
        return {**dict.fromkeys(_COUNTS), "succeeded_items": 0, "failed_items": 0}
    return {name: getattr(counts, name) for name in _COUNTS}


def read_version(row: sqlite3.Row) -> Version:
    """Give a version."""
    return Version(**{**dict(row), "spec": json.loads(row["spec"])})


def read_death(row: sqlite3.Row) -> Death:
    """Give the account of a Part of a Batch."""
    return Death(
        batch=row["batch"],
        part=Part(row["first_item"], row["end_item"]),
        deaths=row["deaths"],
        timeouts=row["timeouts"],
        cause=row["cause"],
        kind=DeathKind(row["kind"]),
    )


def read_job(row: sqlite3.Row) -> Job:
    """Give a Job."""
    fields: dict[str, Any] = dict(row)
    counts = {name: fields.pop(name) for name in _COUNTS}
    fields["config"] = None if fields["config"] is None else json.loads(fields["config"])
    fields["source"] = _read(fields["source"], FileSource)
    fields["policy"] = _read(fields["policy"], Policy) or _DEFAULT_POLICY
    fields["output"] = _read(fields["output"], Output)
    fields["status"] = JobStatus(fields["status"])
    fields["ending"] = None if fields["ending"] is None else JobStatus(fields["ending"])
    if counts["succeeded"] is not None:
        fields["final_counts"] = Counts(**counts)
    return Job(**fields)


def _write(section: _Section | None) -> str | None:
    return None if section is None else msgspec.json.encode(section).decode()


def _read(text: str | None, section: type[_Section]) -> _Section | None:
    return None if text is None else msgspec.json.decode(text, type=section)
