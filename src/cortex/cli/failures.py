"""`cortex failures`"""

import json
from itertools import chain

import click
import msgspec

from cortex.cli.causes import Causes, causes_view
from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_stream
from cortex.cli.tables import hints
from cortex.clients.facts import job_line
from cortex.clients.job import Job
from cortex.clients.lines import line_blocks


class _RawItems(msgspec.Struct):
    """The items of a batch, each as it was submitted."""

    items: list[msgspec.Raw]


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--items", "is_items", is_flag=True, help="Print the items of the failed batches, one a line.")
@environment_option
@output_option
def command(api_name: str, job_id: str | None, is_items: bool, environment_name: str | None, output: str) -> None:
    """Show why batches of a job (default: the newest) failed, by cause, as far as the job is.

    With --items, print what was in them, to be mended and submitted again. As JSON: one line for each failed batch.

    \b
    cortex failures digits --items > failed.jsonl
    cortex submit digits --items failed.jsonl --batch-size 1
    """
    connection = connect(environment_name)
    job = connection.job(api_name, job_id)
    chunks = job.stream("failed_items" if is_items else "failures")
    if output == "json":
        has_any = write_stream(chunks)
    elif is_items:
        has_any = write_stream(map(_items, chain.from_iterable(line_blocks(chunks))))
    else:
        has_any = _show_causes(connection, job)
    if not has_any:
        talk(f"no batch has failed ({job_line(job.status())})")


def _show_causes(connection: Connection, job: Job) -> bool:
    causes = Causes()
    for failure in job.failures():
        causes.add(failure)
    found = causes.by_count()
    if found:
        click.echo(causes_view(found))
        which = f"{job.api} {job.id}"
        commands = [
            (connection.command(f"failures {which} -o json"), "print each failed batch with its traceback"),
            (connection.command(f"failures {which} --items"), "print their items, to submit them again"),
        ]
        talk("\n" + hints(commands))
    return bool(found)


def _items(line: bytes) -> bytes:
    """Make the items of a batch lines, without a change to their digits."""
    try:
        items = [bytes(item) for item in msgspec.json.decode(line, type=_RawItems).items]
    except msgspec.DecodeError:  # halves of surrogate pairs, which JSON allows
        items = [json.dumps(item).encode() for item in json.loads(line)["items"]]
    return b"".join(item + b"\n" for item in items)
