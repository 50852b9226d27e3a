"""`cortex cluster`: the operator of `local` by hand, and a description of any."""

import click

from cortex.cli.group import PrefixGroup
from cortex.cli.options import environment_option, output_option, write_json
from cortex.cli.tables import facts
from cortex.clients.connect import client_of, local_operator
from cortex.clients.environments import LOCAL, Environment, read_environments
from cortex.domain.errors import InvalidRequest, OperatorUnreachable


@click.group(cls=PrefixGroup)
def command() -> None:
    """Start, describe and stop the operator."""


@command.command()
@environment_option
def up(environment_name: str | None) -> None:
    """Start the operator of `local` in the background."""
    _only_local(environment_name)
    running, was_started = local_operator().start()
    what = "started the operator" if was_started else "the operator already runs"
    click.echo(f"{what} at {running.address} (pid {running.pid})")


@command.command()
@environment_option
@click.option("--now", is_flag=True, help="Do not wait for batches to end; they run again later.")
def down(environment_name: str | None, *, now: bool) -> None:
    """Stop the operator of `local`.

    Batches that have begun have some seconds to end (`cortex operator --grace-period`). Jobs in progress go on when it
    is started again.
    """
    _only_local(environment_name)
    stopped = local_operator().stop(at_once=now, waiting_for=lambda what: click.echo(f"waiting for {what}", err=True))
    click.echo(f"stopped the operator at {stopped.address} (pid {stopped.pid})" if stopped else "no operator runs")


@command.command()
@environment_option
@output_option
def info(environment_name: str | None, output: str) -> None:
    """Describe the operator."""
    environment = read_environments().find(environment_name)
    address, pid = _whereabouts(environment)
    with client_of(environment, address) as client:
        answer = client.info()
    if output == "json":
        write_json({"pid": pid, **answer} if pid else answer)
        return
    machine = answer["machine"]
    lines: list[tuple[str, object]] = [
        ("environment", environment.name),
        ("address", address),
        *([("pid", pid)] if pid else []),
        ("version", answer["version"]),
        ("engine", answer["engine"]),
        ("machine", f"{machine['cpu']:g} cores, {machine['mem'] / 2**30:.1f} GiB"),
        ("data directory", answer["data_dir"]),
        ("apis", answer["apis"]),
        ("jobs in progress", answer["jobs_in_progress"]),
    ]
    click.echo(facts(lines))


def _only_local(environment_name: str | None) -> None:
    environment = read_environments().find(environment_name or LOCAL)
    if not environment.is_local:
        raise InvalidRequest(
            f"cortex starts and stops the operator of `{LOCAL}` alone, not that of `{environment.name}`",
            hint=f"`cortex operator` runs one where `{environment.operator_endpoint}` is",
        )


def _whereabouts(environment: Environment) -> tuple[str, int | None]:
    if environment.operator_endpoint is not None:
        return environment.operator_endpoint, None
    running = local_operator().find()
    if running is None:
        raise OperatorUnreachable("no operator runs", hint="`cortex cluster up` starts one, and so does any command")
    return running.address, running.pid
