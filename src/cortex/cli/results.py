"""`cortex results`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option, talk, write_stream
from cortex.clients.facts import job_line


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@environment_option
def command(api_name: str, job_id: str, follow: bool, environment_name: str | None) -> None:
    """Print the results of a job as JSON lines, in the order of its items, as far as the job is."""
    job = connect(environment_name).job(api_name, job_id)
    if not write_stream(job.stream("results", follow=follow)):
        talk(f"no results ({job_line(job.status())}); results are what `predict` returns")
