"""`cortex logs`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option, talk, write_stream
from cortex.cli.views import has_ended, job_line


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@environment_option
def command(api_name: str, job_id: str | None, environment_name: str | None) -> None:
    """Print the log of a job (default: the newest), and follow it until the job has ended."""
    connection = connect(environment_name)
    api = connection.api(api_name)
    job_id = job_id or connection.newest_job(api)
    was_in_progress = not has_ended(connection.client.job(api["endpoint"], job_id)["job_status"])
    try:
        write_stream(connection.client.logs(api["endpoint"], job_id, follow=True))
    except KeyboardInterrupt:
        return  # the user has seen enough; the job goes on
    if was_in_progress:
        talk(f"job {job_id} has ended: {job_line(connection.client.job(api['endpoint'], job_id)['job_status'])}")
