"""`cortex failures`"""

import json
from collections.abc import Iterable, Iterator

import click
import msgspec

from cortex.answers import ApiSummary
from cortex.cli.causes import Causes, causes_view
from cortex.cli.connection import Connection, connect
from cortex.cli.options import environment_option, output_option, talk, write_stream
from cortex.cli.tables import hints
from cortex.cli.views import job_line


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
    api = connection.api(api_name)
    job_id = job_id or connection.newest_job(api)
    client, endpoint = connection.client, api["endpoint"]
    chunks = client.failed_items(endpoint, job_id) if is_items else client.failures(endpoint, job_id)
    if output == "json":
        has_any = write_stream(chunks)
    elif is_items:
        has_any = write_stream(map(_items, _lines(chunks)))
    else:
        has_any = _show_causes(connection, api, job_id, _lines(chunks))
    if not has_any:
        talk(f"no batch has failed ({job_line(client.job(endpoint, job_id)['job_status'])})")


def _show_causes(connection: Connection, api: ApiSummary, job_id: str, lines: Iterable[bytes]) -> bool:
    causes = Causes()
    for line in lines:
        causes.add(json.loads(line))
    found = causes.by_count()
    if found:
        click.echo(causes_view(found))
        which = f"{api['name']} {job_id}"
        commands = [
            (connection.command(f"failures {which} -o json"), "print each failed batch with its traceback"),
            (connection.command(f"failures {which} --items"), "print their items, to submit them again"),
        ]
        talk("\n" + hints(commands))
    return bool(found)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give whole lines of what comes in pieces."""
    begun: list[bytes] = []
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join([*begun, line])
            begun.clear()
        begun.append(rest)


def _items(line: bytes) -> bytes:
    """Make the items of a batch lines, without a change to their digits."""
    try:
        items = [bytes(item) for item in msgspec.json.decode(line, type=_RawItems).items]
    except msgspec.DecodeError:  # halves of surrogate pairs, which JSON allows
        items = [json.dumps(item).encode() for item in json.loads(line)["items"]]
    return b"".join(item + b"\n" for item in items)
