"""`cortex verify`"""

from typing import Final

import click

from cortex.answers import Verification
from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import facts, hints

_INCOMPLETE: Final = 1


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@environment_option
@output_option
@click.pass_context
def command(
    context: click.Context, api_name: str, job_id: str | None, environment_name: str | None, output: str
) -> None:
    """Check that all that a job (default: the newest) gave is there, and as it was written.

    Everything is read again: how each batch ended, what it left, and the files of its results. The exit code is 0
    only where the job has ended, with every batch, and nothing is missing or damaged.
    """
    connection = connect(environment_name)
    job = connection.job(api_name, job_id)
    found = job.verify()
    if output == "json":
        write_json(found)
    else:
        click.echo(verification_view(found))
        if commands := _what_to_do(connection, api_name, found):
            talk("\n" + hints(commands))
    if not (found["is_complete"] and found["is_intact"]):
        context.exit(_INCOMPLETE)


def verification_view(found: Verification) -> str:
    """Show what was checked, and what was found."""
    checked = found["checked"]
    lines: list[tuple[str, object]] = [
        ("job", found["job_id"]),
        ("complete", "yes" if found["is_complete"] else "no"),
        ("intact", "yes" if found["is_intact"] else click.style("no", fg="red")),
        ("batches", _counts(checked["batches"], checked["succeeded"], checked["failed"], checked["open"])),
        (
            "items",
            _counts(checked["items"], checked["succeeded_items"], checked["failed_items"], checked["open_items"]),
        ),
        ("rows", f"{checked['rows']} ({checked['bytes']} bytes read)"),
    ]
    if checked["files"]:
        lines.append(("result files", checked["files"]))
    if checked["inputs"]:
        lines.append(("input files", checked["inputs"]))
    text = facts(lines)
    for title, told in (("problems", found["problems"]), ("notes", found["notes"])):
        if told:
            text += f"\n\n{click.style(title, bold=True)}\n" + "\n".join(told)
    return text


def _counts(total: int, succeeded: int, failed: int, still_open: int) -> str:
    return f"{total} ({succeeded} succeeded, {failed} failed, {still_open} open)"


def _what_to_do(connection: Connection, api_name: str, found: Verification) -> list[tuple[str, str]]:
    which = f"{api_name} {found['job_id']}"
    if found["is_intact"] and found["is_complete"]:
        return []
    if found["is_intact"]:
        return [
            (connection.command(f"get {which}"), "shows how far it is"),
            (connection.command(f"rerun {which}"), "once it has ended: does what is open"),
        ]
    return [
        (connection.command(f"results {which}"), "prints what is there"),
        (connection.command(f"rerun {which} --all"), "runs all of it again"),
    ]
