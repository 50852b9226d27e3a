"""`cortex submit`"""

from typing import BinaryIO

import click

from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import hints
from cortex.cli.wait import wait_for_job


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@click.option("--wait", "is_waiting", is_flag=True, help="Show the job's progress, and fail unless it succeeds.")
@environment_option
@output_option
def command(api_name: str, file: BinaryIO, is_waiting: bool, environment_name: str | None, output: str) -> None:
    """Submit the job that FILE describes as JSON (`-` reads stdin), and print its id."""
    submission = file.read()
    connection = connect(environment_name)
    api = connection.api(api_name)
    submitted = connection.client.submit(api["endpoint"], submission)
    job_id = submitted["job_id"]
    if output == "json":
        write_json(submitted)
    else:
        click.echo(job_id)
    if not is_waiting:
        talk("\n" + _next_commands(connection, api_name, job_id))
        return
    try:
        wait_for_job(connection, api, job_id)
    except KeyboardInterrupt:
        talk("\nthe job goes on\n\n" + _next_commands(connection, api_name, job_id))
        raise


def _next_commands(connection: Connection, api_name: str, job_id: str) -> str:
    return hints(
        [
            (connection.command(f"get {api_name} {job_id} --watch"), "show the job until it has ended"),
            (connection.command(f"logs {api_name} {job_id}"), "follow its log"),
            (connection.command(f"results {api_name} {job_id}"), "print its results"),
            (connection.command(f"delete {api_name} {job_id}"), "stop it"),
        ]
    )
