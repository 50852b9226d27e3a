"""`cortex logs`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option, talk, write_stream
from cortex.clients.facts import has_ended, job_line


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@environment_option
def command(api_name: str, job_id: str | None, environment_name: str | None) -> None:
    """Print the log of a job (default: the newest), and follow it until the job has ended."""
    job = connect(environment_name).job(api_name, job_id)
    was_in_progress = not has_ended(job.status())
    try:
        write_stream(job.stream("logs", follow=True))
    except KeyboardInterrupt:
        return  # the user has seen enough; the job goes on
    if was_in_progress:
        talk(f"job {job.id} has ended: {job_line(job.status())}")
