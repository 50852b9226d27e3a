"""`cortex operator`"""

import os
from pathlib import Path

import click

from cortex.clients.environments import local_data_directory
from cortex.domain.silence import BEAT_SECONDS, DEFAULT_HEARTBEAT_SECONDS
from cortex.operator.keys import FILE_VARIABLE, take_key
from cortex.settings import (
    DEFAULT_GRACE_SECONDS,
    DEFAULT_KEEP_JOBS,
    DEFAULT_STALL_SECONDS,
    Settings,
    parse_channel_address,
    parse_keep_jobs,
    parse_log_sink,
    parse_public_url,
    parse_size,
    parse_storage,
)
from cortex.web.guard import is_loopback
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
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    envvar=FILE_VARIABLE,
    show_default="the key in CORTEX_API_KEY, if there is one",
    help="A file with the key that is asked of every caller; needed to listen beyond this machine.",
)
@click.option(
    "--public-url",
    metavar="URL",
    envvar="CORTEX_OPERATOR_PUBLIC_URL",
    help="The URL of a proxy in front of the operator, by which it is reached.",
)
@click.option(
    "--allow-path",
    "allowed_paths",
    multiple=True,
    type=click.Path(path_type=Path),
    envvar="CORTEX_OPERATOR_ALLOW_PATH",
    show_default="all on loopback, else none",
    help="A folder on this machine that jobs may read files in, and write to; may be repeated.",
)
@click.option(
    "--max-upload",
    default="10GB",
    metavar="SIZE",
    envvar="CORTEX_OPERATOR_MAX_UPLOAD",
    help="How much the files of a job that are uploaded may have.",
)
@click.option(
    "--engine",
    default="processes",
    envvar="CORTEX_OPERATOR_ENGINE",
    help="Who runs the workers: `processes` of this machine, or `ray` on the machines of a cluster.",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    show_default="the cluster of this machine",
    help="The address of the Ray that runs the workers: HOST:PORT, or ray://HOST:PORT from outside of it.",
)
@click.option(
    "--channel-host",
    metavar="HOST",
    envvar="CORTEX_OPERATOR_CHANNEL_HOST",
    show_default="that of --host, or if that is loopback, the one from which Ray is reached",
    help="The address to listen on for workers on other machines.",
)
@click.option(
    "--channel-port",
    default=0,
    type=click.IntRange(0, 65535),
    envvar="CORTEX_OPERATOR_CHANNEL_PORT",
    help="The port for workers on other machines; 0 takes a free one, and at the next start the same one.",
)
@click.option(
    "--channel-address",
    metavar="HOST[:PORT]",
    envvar="CORTEX_OPERATOR_CHANNEL_ADDRESS",
    show_default="what is listened on",
    help="What workers on other machines connect to, if that is not what is listened on.",
)
@click.option(
    "--storage",
    metavar="PLACE",
    envvar="CORTEX_OPERATOR_STORAGE",
    show_default="over the channel",
    help="Where large payloads and results pass between machines: s3://bucket/prefix, or a folder that all see.",
)
@click.option(
    "--keep-warm",
    default=60.0,
    type=click.FloatRange(0),
    metavar="SECONDS",
    envvar="CORTEX_OPERATOR_KEEP_WARM",
    help="How long idle workers are kept for the next job.",
)
@click.option(
    "--heartbeat",
    default=DEFAULT_HEARTBEAT_SECONDS,
    type=click.FloatRange(BEAT_SECONDS),
    metavar="SECONDS",
    envvar="CORTEX_OPERATOR_HEARTBEAT",
    help="How long a worker may be stopped, or what starts workers be silent, before it is killed and replaced.",
)
@click.option(
    "--grace-period",
    default=DEFAULT_GRACE_SECONDS,
    type=click.FloatRange(0),
    metavar="SECONDS",
    envvar="CORTEX_OPERATOR_GRACE_PERIOD",
    help="How long batches may go on when the operator is stopped; `on_job_complete` has at least 30. What is cut off"
    " runs again after the next start.",
)
@click.option(
    "--stall-after",
    default=DEFAULT_STALL_SECONDS,
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    envvar="CORTEX_OPERATOR_STALL_AFTER",
    help="After how long without the end of a batch a job says what it waits for.",
)
@click.option(
    "--log-limit",
    default="256MB",
    metavar="SIZE",
    envvar="CORTEX_OPERATOR_LOG_LIMIT",
    help="How large the log of a job may become.",
)
@click.option(
    "--keep-jobs",
    default=DEFAULT_KEEP_JOBS,
    metavar="AGE,NUMBER",
    envvar="CORTEX_OPERATOR_KEEP_JOBS",
    help="How long, and how many of each API, jobs are kept after their end: 30d,1000 or 12h or 500 or all.",
)
@click.option(
    "--disk-budget",
    metavar="SIZE",
    envvar="CORTEX_OPERATOR_DISK_BUDGET",
    show_default="none",
    help="How much the data directory may have; beyond it, the jobs that ended first are removed.",
)
@click.option(
    "--log-sink",
    metavar="PLACE",
    envvar="CORTEX_OPERATOR_LOG_SINK",
    help="Where the logs of jobs go besides: stdout, s3://bucket/prefix or file:///folder.",
)
@click.option("--ready-fd", type=int, hidden=True)
def command(
    *,
    host: str,
    port: int,
    data_dir: Path,
    api_key_file: Path | None,
    public_url: str | None,
    allowed_paths: tuple[Path, ...],
    max_upload: str,
    engine: str,
    ray_address: str | None,
    channel_host: str | None,
    channel_port: int,
    channel_address: str | None,
    storage: str | None,
    keep_warm: float,
    heartbeat: float,
    grace_period: float,
    stall_after: float,
    log_limit: str,
    keep_jobs: str,
    disk_budget: str | None,
    log_sink: str | None,
    ready_fd: int | None,
) -> None:
    """Run an operator in the foreground, until SIGTERM or Ctrl-C.

    Each option is also an environment variable: CORTEX_OPERATOR_HOST and so on. SIZE is a number with a unit: 10GB.

    \b
    cortex operator --port 0 --data-dir /var/lib/cortex
    cortex operator --host 0.0.0.0 --api-key-file key --allow-path /data
    cortex operator --api-key-file key --public-url https://cortex.example.com
    cortex operator --host 10.0.0.5 --api-key-file key --engine ray --ray-address 10.0.0.9:6379 --channel-port 8889
    """
    settings = Settings(
        host=host,
        port=port,
        data_dir=data_dir.absolute(),
        api_key=take_key(api_key_file, os.environ),
        public_url=parse_public_url(public_url) if public_url else None,
        allowed_paths=tuple(path.resolve() for path in allowed_paths) or (None if is_loopback(host) else ()),
        max_upload_bytes=parse_size(max_upload),
        engine=engine,
        ray_address=ray_address,
        channel_host=channel_host,
        channel_port=channel_port,
        channel_address=parse_channel_address(channel_address) if channel_address else None,
        storage=parse_storage(storage) if storage else None,
        keep_warm_seconds=keep_warm,
        heartbeat_seconds=heartbeat,
        grace_seconds=grace_period,
        stall_seconds=stall_after,
        log_limit_bytes=parse_size(log_limit),
        keep_jobs=parse_keep_jobs(keep_jobs),
        disk_budget_bytes=parse_size(disk_budget) if disk_budget else None,
        log_sink=parse_log_sink(log_sink) if log_sink else None,
        ready_fd=ready_fd,
    )
    run_operator(settings)
