"""`cortex prune`"""

from typing import Any, Final

import click

from cortex.answers import Pruned
from cortex.cli.connection import connect
from cortex.cli.options import environment_option, output_option, talk, write_json
from cortex.cli.tables import table
from cortex.domain.errors import InvalidRequest
from cortex.domain.quantity import show_bytes

_DEFAULT_AGE: Final = "7d"


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    show_default=f"{_DEFAULT_AGE}, or with --keep any",
    help="Remove the jobs that ended so long ago: 12h, 30d; 0s removes all that have ended.",
)
@click.option(
    "--keep",
    type=click.IntRange(0),
    metavar="NUMBER",
    help="Remove the ended jobs of an API, but for so many that ended last.",
)
@click.option(
    "--environments",
    is_flag=True,
    help="Remove all environments and models that are not in use, too, and downloaded packages: they come again.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@environment_option
@output_option
def command(
    *,
    older_than: str | None,
    keep: int | None,
    environments: bool,
    dry_run: bool,
    yes: bool,
    environment_name: str | None,
    output: str,
) -> None:
    """Remove ended jobs with their results and logs, and what nothing needs any more.

    That is environments, projects and models of versions that are gone, and files that were uploaded for jobs that
    never came. What is in use stays. What would be removed is shown first.

    \b
    cortex prune --older-than 30d --dry-run
    cortex prune --keep 10 --yes
    """
    if output == "json" and not (dry_run or yes):
        raise InvalidRequest("there is nobody to ask where the answer is JSON", hint="add --yes, or --dry-run")
    older_than = older_than or (_DEFAULT_AGE if keep is None else None)
    wanted: dict[str, Any] = {"older_than": older_than, "keep": keep, "environments": environments}
    client = connect(environment_name).client
    if not yes:
        found = client.prune({**wanted, "dry_run": True})
        _show(found, output)
        if dry_run or not _is_any(found):
            return
        if not _is_confirmed():
            talk("nothing was removed")
            return
    _show(client.prune({**wanted, "dry_run": dry_run}), output)


def _is_confirmed() -> bool:
    """Ask; raises InvalidRequest where nobody answers, as in a script."""
    try:
        return click.confirm("remove this for good?", err=True)
    except click.Abort:
        talk("")  # the question has no line end
        raise InvalidRequest("nobody has answered: nothing was removed", hint="--yes removes without asking") from None


def _is_any(pruned: Pruned) -> bool:
    return any(one["count"] for one in pruned["removed"])


def _show(pruned: Pruned, output: str) -> None:
    if output == "json":
        write_json(pruned)
        return
    if not _is_any(pruned):
        talk("there is nothing to remove")
        return
    rows: list[list[object]] = [
        [one["kind"], one["count"], show_bytes(one["bytes"])] for one in pruned["removed"] if one["count"]
    ]
    click.echo(table(["to be removed" if pruned["dry_run"] else "removed", "count", "size"], rows))
    would = "would be" if pruned["dry_run"] else "are"
    talk(f"{show_bytes(pruned['bytes'])} {would} free by that")
