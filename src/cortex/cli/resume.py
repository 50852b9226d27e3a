"""`cortex resume`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="JOB")
@environment_option
def command(api_name: str, job_id: str, environment_name: str | None) -> None:
    """Go on with a job that was paused."""
    click.echo(connect(environment_name).job(api_name, job_id).resume())
