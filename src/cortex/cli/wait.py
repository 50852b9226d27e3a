"""Wait for a job: `cortex submit --wait`."""

from cortex.cli.connection import Connection
from cortex.clients.facts import failed_count
from cortex.clients.job import Job
from cortex.clients.waiting import check_success
from cortex.domain.errors import JobFailed, OperatorUnreachable


def wait_for_job(connection: Connection, job: Job) -> None:
    """Show the progress of a job until it has ended; raises JobFailed where it has not succeeded."""
    which = f"{job.api} {job.id}"
    try:
        status = job.wait(progress=True)
    except OperatorUnreachable as error:
        hint = f"the job goes on once the operator is back: `{connection.command(f'get {which}')}`"
        raise OperatorUnreachable(error.message, hint=hint) from error
    try:
        check_success(status)
    except JobFailed as error:
        hint = f"`{connection.command(f'logs {which}')}` shows its log"
        if failed_count(status):
            hint += f", `{connection.command(f'failures {which}')}` why batches failed"
        raise JobFailed(error.message, hint=hint) from None
