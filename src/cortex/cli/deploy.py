"""`cortex deploy`"""

from pathlib import Path

import click

from cortex.answers import DeployedApi
from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import hints
from cortex.clients.deploying import check_deployed, packed
from cortex.domain.api_kind import ApiKind

LARGE_BYTES = 10 * 2**20


@click.command()
@click.argument("configuration", metavar="[CONFIG]", default="cortex.yaml", type=click.Path(path_type=Path))
@environment_option
@output_option
def command(configuration: Path, environment_name: str | None, output: str) -> None:
    """Deploy the APIs of a configuration file (default: cortex.yaml).

    The folder of the file is the project; all of it is uploaded, but for what .cortexignore names.
    """
    with packed(configuration) as deployable:
        connection = connect(environment_name)
        project = deployable.project
        if project.total_bytes > LARGE_BYTES:
            talk(f"uploading {project.file_count} files, {project.total_bytes // 2**20} MiB")
        deployments = deployable.deploy(connection.client)
    if output == "json":
        write_json(deployments)
    else:
        for deployment in deployments:
            if deployment["message"]:
                click.echo(deployment["message"])
    check_deployed(deployments)
    talk("\n" + _next_commands(connection, [deployment["api"] for deployment in deployments]))


def _next_commands(connection: Connection, apis: list[DeployedApi]) -> str:
    name = apis[0]["name"] if len(apis) == 1 else "<api_name>"
    kinds = {api["kind"] for api in apis}
    commands = [("get", "show api statuses"), (f"get {name}", "show api info")]
    if ApiKind.REALTIME in kinds:
        commands.append((f"logs {name}", "stream api logs"))
    if kinds - {ApiKind.BATCH}:
        commands.append((f"predict {name} FILE", "send a request"))
    if ApiKind.BATCH in kinds:
        commands.append((f"submit {name} FILE", "submit a job"))
    return hints([(connection.command(words), purpose) for words, purpose in commands])
