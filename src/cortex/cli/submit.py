"""`cortex submit`"""

from typing import Any

import click

from cortex.answers import ApiSummary
from cortex.cli.connection import Connection, connect
from cortex.cli.dataset import Dataset
from cortex.cli.dry_run import dry_run_view, joined
from cortex.cli.job_policy import JobPolicy, job_policy_options
from cortex.cli.options import environment_option, output_option, write_json
from cortex.cli.submitted import tell_submitted
from cortex.cli.upload import send
from cortex.cli.workers import read_workers
from cortex.clients.job_request import Prepared


@click.command()
@click.argument("api_name", metavar="API")
@click.argument("words", metavar="[FILE]", nargs=-1)
@click.option("--items", metavar="FILE", help="The items: a file with one JSON value a line (`-` reads stdin).")
@click.option("--files", metavar="PATH...", multiple=True, help="The items are the URLs of the files at these paths.")
@click.option("--lines", metavar="PATH...", multiple=True, help="The items are the lines of these files, each JSON.")
@click.option("--include", "includes", metavar="GLOB", multiple=True, help="Take only files that match one of these.")
@click.option("--exclude", "excludes", metavar="GLOB", multiple=True, help="Leave out files that match one of these.")
@click.option("--workers", metavar="N", callback=read_workers, help="How many; 2-8: as there is room.  [default: 1]")
@click.option("--batch-size", metavar="N", type=click.IntRange(1), help="How many items `predict` gets at a time.")
@click.option("--config", metavar="NAME=VALUE", multiple=True, help="A field of the job's config; `a.b=1` sets b in a.")
@job_policy_options
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Check everything and count, but submit nothing.")
@click.option("--wait", "is_waiting", is_flag=True, help="Show the job's progress, and fail unless it succeeds.")
@environment_option
@output_option
@click.pass_context
def command(
    context: click.Context,
    /,
    api_name: str,
    is_dry_run: bool,
    is_waiting: bool,
    environment_name: str | None,
    output: str,
    **options: Any,
) -> None:
    """Submit a job, and print its id.

    FILE is the whole request as JSON (`-` reads stdin). Or name the dataset, and no request needs to be written:
    --items, --files or --lines. A PATH is a URL (s3://, gs://, az://, file://), a file or a folder; what the operator
    cannot see is uploaded. GLOBs match whole paths: `**.jpg`. Options that take many may be repeated.

    What the options leave out is as `job` in cortex.yaml has it; `none` switches a limit or --results of it off. A TIME
    is a number of seconds, or one with its unit: `500ms`, `30s`, `5m`, `2h`, `1d`.

    \b
    cortex submit digits job.json --wait
    cortex submit digits --items items.jsonl --batch-size 32 --workers 4
    cortex submit digits --files images/ --include '**.jpg' --batch-size 16
    cortex submit digits --lines s3://bucket/urls/ --config threshold=0.5 --dry-run
    cortex submit digits --lines urls.jsonl --retries 2 --max-failures 5% --results s3://bucket/out/
    """
    if is_dry_run and is_waiting:
        raise click.UsageError("--dry-run submits nothing that --wait could wait for")
    policy = JobPolicy.take(options)
    policy.check_options()
    dataset = Dataset(**options, policy=policy)
    dataset.check()
    prepare = dataset.read(context)
    connection = connect(environment_name)
    api = connection.batch_api(api_name)
    policy.check(connection.client)
    prepared = prepare(connection.client)
    if is_dry_run:
        _dry_run(connection, api, prepared, dataset.batch_size or 1, output)
        return
    if prepared.upload is not None:
        send(connection.client, prepared.upload, can_resume=dataset.may_be_uploaded_again)
    submitted = connection.client.submit(api["endpoint"], prepared.request)
    tell_submitted(connection, api, submitted, is_waiting=is_waiting, output=output)


def _dry_run(connection: Connection, api: ApiSummary, prepared: Prepared, batch_size: int, output: str) -> None:
    parts = [] if prepared.counted is None else [prepared.counted]
    if prepared.dry_request is not None:
        parts.insert(0, connection.client.dry_run(api["endpoint"], prepared.dry_request))
    counts = joined(parts, batch_size)
    if output == "json":
        write_json(counts)
    else:
        click.echo(dry_run_view(counts))
