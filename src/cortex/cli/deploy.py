"""`cortex deploy`"""

from pathlib import Path

import click

from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import hints
from cortex.domain.errors import CortexError, InvalidConfiguration
from cortex.project import pack

LARGE_BYTES = 10 * 2**20


@click.command()
@click.argument("configuration", metavar="[CONFIG]", default="cortex.yaml", type=click.Path(path_type=Path))
@environment_option
@output_option
def command(configuration: Path, environment_name: str | None, output: str) -> None:
    """Deploy the APIs of a configuration file (default: cortex.yaml).

    The folder of the file is the project; all of it is uploaded, but for what .cortexignore names.
    """
    text = _read(configuration)
    with pack(configuration) as project:
        connection = connect(environment_name)
        if project.total_bytes > LARGE_BYTES:
            talk(f"uploading {project.file_count} files, {project.total_bytes // 2**20} MiB")
        deployments = connection.client.deploy(text, str(configuration), project.file)
    if output == "json":
        write_json(deployments)
    else:
        for deployment in deployments:
            if deployment["message"]:
                click.echo(deployment["message"])
    errors = [deployment["error"] for deployment in deployments if deployment["error"]]
    if errors:
        raise CortexError("\n".join(errors))
    talk("\n" + _next_commands(connection, [deployment["api"]["name"] for deployment in deployments]))


def _read(configuration: Path) -> bytes:
    try:
        return configuration.read_bytes()
    except FileNotFoundError:
        raise InvalidConfiguration(
            f"there is no `{configuration}` in {Path.cwd()}",
            hint="change to the project's folder, or name the file: `cortex deploy PATH/cortex.yaml`",
        ) from None
    except OSError as error:
        hint = f"name the file: `cortex deploy {configuration / 'cortex.yaml'}`" if configuration.is_dir() else None
        raise InvalidConfiguration(f"`{configuration}` cannot be read: {error.strerror}", hint=hint) from error


def _next_commands(connection: Connection, names: list[str]) -> str:
    name = names[0] if len(names) == 1 else "<api_name>"
    return hints(
        [
            (connection.command("get"), "show api statuses"),
            (connection.command(f"get {name}"), "show api info"),
            (connection.command(f"submit {name} FILE"), "submit a job"),
        ]
    )
