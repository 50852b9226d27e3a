"""`cortex operator`"""

from pathlib import Path

import click

from cortex.cli.environments import local_data_directory
from cortex.settings import Settings, parse_size
from cortex.wiring import run_operator


@click.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", envvar="CORTEX_OPERATOR_HOST", help="The address to listen on.")
@click.option(
    "--port",
    default=8888,
    type=click.IntRange(0, 65535),
    envvar="CORTEX_OPERATOR_PORT",
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--data-dir",
    default=local_data_directory,
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CORTEX_OPERATOR_DATA_DIR",
    show_default="that of `local`",
    help="Where everything is kept.",
)
@click.option("--engine", default="processes", envvar="CORTEX_OPERATOR_ENGINE", help="Who runs the workers.")
@click.option(
    "--keep-warm",
    default=60.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    envvar="CORTEX_OPERATOR_KEEP_WARM",
    help="How long idle workers are kept for the next job.",
)
@click.option(
    "--log-limit",
    default="256MB",
    metavar="SIZE",
    envvar="CORTEX_OPERATOR_LOG_LIMIT",
    help="How large the log of a job may become.",
)
@click.option("--ready-fd", type=int, hidden=True)
def command(
    host: str, port: int, data_dir: Path, engine: str, keep_warm: float, log_limit: str, ready_fd: int | None
) -> None:
    """Run an operator in the foreground, until SIGTERM or Ctrl-C.

    Each option is also an environment variable: CORTEX_OPERATOR_HOST and so on.
    """
    settings = Settings(
        host=host,
        port=port,
        data_dir=data_dir.absolute(),
        engine=engine,
        keep_warm_seconds=keep_warm,
        log_limit_bytes=parse_size(log_limit),
        ready_fd=ready_fd,
    )
    run_operator(settings)
