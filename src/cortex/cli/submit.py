"""`cortex submit`"""

import click

from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import hints
from cortex.cli.wait import wait_for_job
from cortex.domain.errors import InvalidSubmission


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("file", metavar="FILE")
@click.option("--wait", "is_waiting", is_flag=True, help="Show the job's progress, and fail unless it succeeds.")
@environment_option
@output_option
def command(api_name: str, file: str, is_waiting: bool, environment_name: str | None, output: str) -> None:
    """Submit the job that FILE describes as JSON (`-` reads stdin), and print its id."""
    submission = _read(file)
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


def _read(file: str) -> bytes:
    try:
        with click.open_file(file, "rb") as opened:
            submission: bytes = opened.read()
    except OSError as error:
        raise InvalidSubmission(
            f"`{file}` cannot be read: {error.strerror}",
            hint="FILE holds the job request as JSON; `-` reads it from stdin",
        ) from error
    return submission


def _next_commands(connection: Connection, api_name: str, job_id: str) -> str:
    return hints(
        [
            (connection.command(f"get {api_name} {job_id} --watch"), "show the job until it has ended"),
            (connection.command(f"logs {api_name} {job_id}"), "follow its log"),
            (connection.command(f"results {api_name} {job_id}"), "print its results"),
            (connection.command(f"delete {api_name} {job_id}"), "stop it"),
        ]
    )
