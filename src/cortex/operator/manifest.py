"""The manifest of a Job: the receipt of what became of its dataset, as JSON lines."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.exporting.receipt import Receipt, input_lines, json_line, output_lines
from cortex.operator.status import rfc3339
from cortex.storage.ledger import Ledger


def job_facts(job: Job) -> dict[str, Any]:
    """Describe a Job as its manifest does; what does not apply is left out."""
    facts = {
        "job_id": job.id,
        "api_name": job.api_name,
        "api_id": job.api_id,
        "rerun_of": job.rerun_of,
        "status": job.status.value,
        "status_reason": job.status_reason,
        "created_time": rfc3339(job.created_at_ns),
        "start_time": None if job.started_at_ns is None else rfc3339(job.started_at_ns),
        "end_time": None if job.ended_at_ns is None else rfc3339(job.ended_at_ns),
        "workers": job.workers,
        "workers_min": job.workers_min,
        "batch_size": job.batch_size,
        "total_batch_count": job.total_batch_count,
        "item_count": job.item_count,
        "results": None if job.output is None else {**asdict(job.output), "path": job.output.folder(job.id)},
    }
    return {name: value for name, value in facts.items() if value is not None}


@dataclass(slots=True, kw_only=True)
class Manifest:
    """One reading of it, from the beginning to the end; the total is of the lines that were given."""

    folder: JobFolder
    ledger: Ledger
    _receipt: Receipt = field(init=False)

    def __post_init__(self) -> None:
        """Begin."""
        self._receipt = Receipt(self.folder)

    def head(self, job: Job) -> Iterator[bytes]:
        """Give the lines before the Batches: the Job, and the files of its dataset. May be used from any thread."""
        yield json_line("job", job_facts(job))
        yield from input_lines(self.folder)

    def batches(self, job: Job, first: int, end: int) -> Iterator[bytes]:
        """Give how each Batch from `first` to `end` has ended that has. May be used from any thread."""
        if first < end:
            segments, deaths = self.ledger.segments(job.id), self.ledger.deaths(job.id)
            yield from self._receipt.batch_lines(job, segments, deaths, first, end)

    def tail(self, job: Job) -> Iterator[bytes]:
        """Give the lines after the Batches: the files of its results, and the total. May be used from any thread."""
        yield from output_lines(self.folder)
        yield json_line("total", self._receipt.totals(job))
