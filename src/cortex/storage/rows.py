"""What the rows of the SQLite ledger stand for."""

import json
import sqlite3
from typing import Any, Final

from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.output import Output
from cortex.domain.policy import Policy
from cortex.domain.source import FileSource
from cortex.storage.ledger import Version

_COUNTS: Final = ("succeeded", "failed", "in_queue", "succeeded_items", "failed_items")


def write_job(job: Job) -> tuple[Any, ...]:
    """Give the columns of a new Job, in the order in which it is inserted."""
    return (
        job.id,
        job.api_name,
        job.api_id,
        job.workers,
        None if job.config is None else json.dumps(job.config),
        None if job.source is None else json.dumps(job.source.to_dict()),
        None if job.policy == Policy() else json.dumps(job.policy.to_dict()),
        None if job.output is None else json.dumps(job.output.to_dict()),
        job.rerun_of,
        job.origin,
        job.batch_size,
        job.item_count,
        job.total_batch_count,
        job.status,
        job.created_at_ns,
    )


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
    fields["source"] = None if fields["source"] is None else FileSource.from_dict(json.loads(fields["source"]))
    fields["policy"] = Policy() if fields["policy"] is None else Policy.from_dict(json.loads(fields["policy"]))
    fields["output"] = None if fields["output"] is None else Output.from_dict(json.loads(fields["output"]))
    fields["status"] = JobStatus(fields["status"])
    fields["ending"] = None if fields["ending"] is None else JobStatus(fields["ending"])
    if counts["succeeded"] is not None:
        fields["final_counts"] = Counts(**counts)
    return Job(**fields)
