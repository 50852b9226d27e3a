"""What an operator finds on the disk when it starts, and makes good."""

import shutil
from contextlib import suppress
from pathlib import Path

from cortex.domain.batch import BatchState
from cortex.domain.job import Counts, Job
from cortex.domain.layout import JobFolder
from cortex.operator.dispatch import count
from cortex.storage.ledger import Ledger
from cortex.storage.results import batches_without_rows
from cortex.storage.segments import SegmentDamaged, States


def remove_leftovers(ledger: Ledger, root: Path) -> None:
    """Remove the folders of Jobs that were never recorded, or are not any more."""
    root.mkdir(parents=True, exist_ok=True)
    for path in root.iterdir():
        if ledger.job(path.name) is None:
            shutil.rmtree(path, ignore_errors=True)


def open_what_was_lost(ledger: Ledger, job: Job, folder: JobFolder) -> None:
    """After a power cut, a state may be on the disk and its rows not: such a Batch is open again."""
    for segment in ledger.segments(job.id):
        states = States(folder, segment)
        for batch in batches_without_rows(folder, segment):
            states.store(batch, BatchState.OPEN)


def count_what_can_be_read(ledger: Ledger, job: Job, folder: JobFolder) -> Counts:
    """Count the Batches of a Job whose files are damaged."""
    counts = []
    for segment in ledger.segments(job.id):
        with suppress(OSError, SegmentDamaged):
            counts.append(count(States(folder, segment)))
    succeeded, failed = sum(each.succeeded for each in counts), sum(each.failed for each in counts)
    return Counts(succeeded=succeeded, failed=failed, in_queue=job.total_batch_count - succeeded - failed)
