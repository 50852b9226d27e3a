"""`cortex refresh`"""

import click

from cortex.cli.connection import connect
from cortex.cli.options import environment_option


@click.command()
@click.argument("api_name", metavar="API")
@environment_option
def command(api_name: str, environment_name: str | None) -> None:
    """Replace all replicas of a RealtimeAPI by new ones; the old ones answer until these are ready."""
    click.echo(connect(environment_name).client.refresh_api(api_name))
