"""What an operator finds on the disk when it starts, and makes good."""

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cortex.domain.batch import BatchState
from cortex.domain.errors import StartRefused
from cortex.domain.job import Counts, Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.operator.joblog import append_line
from cortex.operator.run.tally import add, count
from cortex.storage.attempts import failed_items
from cortex.storage.ledger import Ledger
from cortex.storage.results import batches_without_rows
from cortex.storage.segments import SegmentDamaged, States


def refuse_older_ledger(ledger: Ledger, root: Path) -> None:
    """Raise StartRefused where a Job has run that is newer than all that the ledger ever knew.

    Then it is the ledger that has lost something, and what it does not know must not be taken for left over.
    """
    newest = ledger.newest_job_id()
    for path in root.iterdir() if root.exists() else []:
        is_newer = newest is None or path.name < newest
        if is_newer and "." not in path.name and JobFolder(path).setup.exists():
            raise StartRefused(
                f"the ledger does not know the job in `{path}`, which is newer than all that it knows: it is an older"
                " copy of itself, or its `-wal` file is gone",
                hint="restore both, or move that folder away to go on without the job",
            )


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


def is_damage(error: Exception, folder: JobFolder) -> bool:
    """Tell whether a failure says that files of a Job are not there as they were written: trying again is no help."""
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) and error.filename is not None:
        return Path(error.filename).is_relative_to(folder.root)
    return isinstance(error, SegmentDamaged)


def give_up(ledger: Ledger, job_id: str, folder: JobFolder, error: Exception, *, at_ns: int) -> Job | None:
    """Record the end of a Job whose files are damaged; None where it has ended."""
    job = ledger.job(job_id)
    if job is None or job.is_final:
        return None
    reason = f"its files are damaged: {error}; what can be read of its results is kept, submit the rest again"
    append_line(folder.log, f"{JobStatus.UNEXPECTED_ERROR.text}: {reason}")
    counts = _count_what_can_be_read(ledger, job, folder)
    return ledger.move(job.id, JobStatus.UNEXPECTED_ERROR, at_ns=at_ns, reason=reason, counts=counts)


def _count_what_can_be_read(ledger: Ledger, job: Job, folder: JobFolder) -> Counts:
    """Count the Batches of a Job whose files are damaged."""
    counts = []
    for segment in ledger.segments(job.id):
        with suppress(OSError, SegmentDamaged):
            states = States(folder, segment)
            failed = failed_items(folder, states.batches(BatchState.FAILED_IN_PART))
            counts.append(count(job, states, failed_items=failed))
    total = add(counts)
    return replace(total, in_flight=0, in_queue=job.total_batch_count - total.succeeded - total.failed)
