"""`cortex version`"""

import click

from cortex import __version__
from cortex.cli.options import environment_option
from cortex.cli.tables import facts
from cortex.clients.environments import Environment, local_data_directory, read_environments
from cortex.clients.local import LocalOperator
from cortex.domain.errors import CortexError


@click.command()
@environment_option
def command(environment_name: str | None) -> None:
    """Print the version of this command line, and of the operator if one answers."""
    environment = read_environments().find(environment_name)
    click.echo(facts([("client", __version__), ("operator", _operator_version(environment))]))


def _operator_version(environment: Environment) -> str:
    try:
        if environment.operator_endpoint is None:
            running = LocalOperator(data_dir=local_data_directory()).find()
            return running.version if running else "not running"
        # Here, because the HTTP library takes longer to import than all else that this command does.
        from cortex.clients.operator_client import OperatorClient

        with OperatorClient(environment.operator_endpoint, environment.api_key) as client:
            return client.health()["version"]
    except CortexError:
        return "does not answer"
