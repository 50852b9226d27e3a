"""`cortex logs`"""

import click

from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, talk, write_stream
from cortex.clients.facts import has_ended, job_line
from cortex.domain.api_kind import ApiKind


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--no-follow", "is_short", is_flag=True, help="Print what there is so far, and end.")
@environment_option
def command(api_name: str, job_id: str | None, is_short: bool, environment_name: str | None) -> None:
    """Print the log of a job (default: the newest) or of a RealtimeAPI, and follow it until that has ended."""
    connection = connect(environment_name)
    try:
        if job_id is None and connection.api(api_name)["kind"] != ApiKind.BATCH:
            write_stream(connection.client.api_logs(api_name, follow=not is_short))
        else:
            _write_log_of_job(connection, api_name, job_id, is_short=is_short)
    except KeyboardInterrupt:
        return  # the user has seen enough; the job or the API goes on


def _write_log_of_job(connection: Connection, api_name: str, job_id: str | None, *, is_short: bool) -> None:
    job = connection.job(api_name, job_id)
    was_in_progress = not has_ended(job.status())
    write_stream(job.stream("logs", follow=not is_short))
    if was_in_progress and not is_short:
        talk(f"job {job.id} has ended: {job_line(job.status())}")
