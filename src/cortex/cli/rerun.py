"""`cortex rerun`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option, output_option
from cortex.cli.submitted import tell_submitted
from cortex.cli.workers import read_workers
from cortex.clients.job import rerun_request
from cortex.clients.job_request import WorkerRange


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="JOB")
@click.option("--all", "is_all", is_flag=True, help="Run every batch again.")
@click.option("--hook", "is_hook", is_flag=True, help="Run no batch, only `on_job_complete` again.")
@click.option("--original", "is_original", is_flag=True, help="Use the version of the API that the job ran with.")
@click.option("--workers", metavar="N", callback=read_workers, help="How many, as in `submit`.  [default: as the job]")
@click.option("--wait", "is_waiting", is_flag=True, help="Show the job's progress, and fail unless it succeeds.")
@environment_option
@output_option
def command(
    api_name: str,
    job_id: str,
    is_all: bool,
    is_hook: bool,
    is_original: bool,
    workers: int | WorkerRange | None,
    is_waiting: bool,
    environment_name: str | None,
    output: str,
) -> None:
    """Make a job of what failed in another one, and print its id.

    It runs the batches that failed and those that the job did not get to, with the version of the API that is deployed
    now. Its results are the merged ones of both jobs, in the order of the items; the other job stays as it is.
    """
    if is_all and is_hook:
        raise click.UsageError("--all and --hook exclude each other")
    request = rerun_request(all=is_all, hook=is_hook, original=is_original, workers=workers)
    connection = connect(environment_name)
    api = connection.api(api_name)
    submitted = connection.client.rerun_job(api["endpoint"], job_id, request)
    tell_submitted(connection, api, submitted, is_waiting=is_waiting, output=output)
