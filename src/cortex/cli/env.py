"""`cortex env`"""

import sys
from collections.abc import Sequence

import click

from cortex.cli.group import PrefixGroup
from cortex.cli.options import output_option, talk, write_json
from cortex.cli.tables import facts
from cortex.clients.connect import client_of, local_operator
from cortex.clients.environments import LOCAL, Environment, parse_endpoint, read_environments, write_environments
from cortex.domain.errors import CortexError, Forbidden, Unauthorized


@click.group(cls=PrefixGroup)
def command() -> None:
    """Manage environments: the operators that this command line knows."""


@command.command()
@click.argument("name", metavar="NAME")
@click.option("--operator-endpoint", metavar="URL", help="The operator's address.")
@click.option("--api-key", metavar="KEY", help="The operator's key; kept in a file that only you may read.")
@click.option("--ray-address", metavar="ADDRESS", help="For `local`: the Ray that runs its workers; none if empty.")
def configure(name: str, operator_endpoint: str | None, api_key: str | None, ray_address: str | None) -> None:
    """Add an environment, or change it.

    \b
    cortex env configure prod --operator-endpoint https://cortex.example.com --api-key KEY
    cortex env configure local --ray-address 10.0.0.9:6379
    """
    if ray_address is not None:
        _configure_ray(name, ray_address, [operator_endpoint, api_key])
        return
    if operator_endpoint is None:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: give the --operator-endpoint")
        operator_endpoint = click.prompt("operator endpoint", err=True)
    address = parse_endpoint(operator_endpoint)
    environment = Environment(name=name, operator_endpoint=address, api_key=api_key)
    client = client_of(environment, address)  # refuses a key that cannot be one
    write_environments(read_environments().with_environment(environment))
    click.echo(f"configured {name} environment")
    try:
        with client:
            version = client.health()["version"]
            client.apis()  # what a wrong key would not be let see
            talk(f"operator {version} answers at {address}")
    except (Unauthorized, Forbidden) as error:
        talk(f"warning: {error}")
    except CortexError as error:
        talk(f"warning: {error.message}")


def _configure_ray(name: str, ray_address: str, others: Sequence[str | None]) -> None:
    if name != LOCAL or any(others):
        raise click.UsageError(f"--ray-address is for `{LOCAL}` alone, whose operator is started here")
    environments = read_environments()
    write_environments(environments.with_environment(Environment(name=LOCAL, ray_address=ray_address or None)))
    click.echo(f"configured {name} environment")
    if local_operator().find() is not None:
        talk("its operator runs, and goes on as it is: `cortex cluster down` ends it")


@command.command(name="list")
@output_option
def list_environments(output: str) -> None:
    """List the environments; keys are not shown."""
    environments = read_environments()
    if output == "json":
        write_json(
            [
                {
                    "name": environment.name,
                    "is_default": environment.name == environments.default,
                    "operator_endpoint": environment.operator_endpoint,
                    "api_key": _masked(environment.api_key),
                }
                for environment in environments.known
            ]
        )
        return
    blocks = []
    for environment in environments.known:
        suffix = " (default)" if environment.name == environments.default else ""
        blocks.append(f"{environment.name}{suffix}\n{_about(environment)}")
    click.echo("\n\n".join(blocks))


@command.command()
@click.argument("name", metavar="NAME")
def default(name: str) -> None:
    """Choose the environment that commands use where none is named."""
    environments = read_environments()
    if environments.find(name).name == environments.default:
        click.echo(f"{name} is already the default environment")
        return
    write_environments(environments.with_default(name))
    click.echo(f"set {name} as the default environment")


@command.command()
@click.argument("name", metavar="NAME")
def delete(name: str) -> None:
    """Forget an environment; its operator goes on."""
    environments = read_environments()
    remaining = environments.without(name)
    write_environments(remaining)
    click.echo(f"deleted the {name} environment configuration")
    if remaining.default != environments.default:
        talk(f"set {remaining.default} as the default environment")


def _about(environment: Environment) -> str:
    if environment.operator_endpoint is None:
        running = local_operator().find()
        about = [("operator endpoint", running.address if running else "started when a command needs it")]
        return facts(about + ([("ray address", environment.ray_address)] if environment.ray_address else []))
    pairs = [("operator endpoint", environment.operator_endpoint)]
    if environment.api_key is not None:
        pairs.append(("api key", _masked(environment.api_key) or ""))
    return facts(pairs)


def _masked(key: str | None) -> str | None:
    if key is None:
        return None
    return "****" + (key[-4:] if len(key) >= 16 else "")
