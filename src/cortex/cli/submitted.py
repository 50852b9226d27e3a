"""What is said of a job that has just been made, and the wait for it."""

import click

from cortex.answers import ApiSummary, Submitted
from cortex.cli.connection import Connection
from cortex.cli.options import talk, write_json
from cortex.cli.tables import hints
from cortex.cli.wait import wait_for_job
from cortex.clients.job import Job


def tell_submitted(
    connection: Connection, api: ApiSummary, submitted: Submitted, *, is_waiting: bool, output: str
) -> None:
    """Print the id of a job; then wait for it, or say what can be done next. Raises JobFailed."""
    if output == "json":
        write_json(submitted)
    else:
        click.echo(submitted["job_id"])
    job = Job(connection.client, api["endpoint"], api["name"], submitted["job_id"])
    commands = _next_commands(connection, job)
    if not is_waiting:
        talk("\n" + commands)
        return
    try:
        wait_for_job(connection, job)
    except KeyboardInterrupt:
        talk("\nthe job goes on\n\n" + commands)
        raise


def _next_commands(connection: Connection, job: Job) -> str:
    which = f"{job.api} {job.id}"
    return hints(
        [
            (connection.command(f"get {which} --watch"), "show the job until it has ended"),
            (connection.command(f"logs {which}"), "follow its log"),
            (connection.command(f"results {which}"), "print its results"),
            (connection.command(f"delete {which}"), "stop it"),
        ]
    )
