"""`cortex delete`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@environment_option
def command(api_name: str, job_id: str | None, environment_name: str | None) -> None:
    """Delete an API with its jobs and their history, or stop one of its jobs."""
    connection = connect(environment_name)
    if job_id is None:
        click.echo(connection.client.delete_api(api_name))
    else:
        click.echo(connection.job(api_name, job_id).stop())
