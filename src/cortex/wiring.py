"""Runs an operator, from its first breath to its last."""

import asyncio
import logging
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import Final

import psutil
import uvicorn
import uvloop

from cortex.child_process.children import Children
from cortex.domain.errors import StartRefused, StorageFailed
from cortex.engines.ray.client import check_installed
from cortex.engines.stations import StationEngine
from cortex.operator.channel import listen
from cortex.operator.stations.door import open_door
from cortex.operator.stations.secret import channel_secret
from cortex.operator.status import rfc3339
from cortex.operator.upkeep.prune import UPLOADS_KEPT
from cortex.operator.upkeep.syncing import Syncing
from cortex.parts import MakePlacer, Parts, build, depositors, ray_placer
from cortex.premises import (
    Entrance,
    address_of,
    announce,
    announce_end,
    check_host,
    data_directory,
    entrance,
    host_from_here,
    listening_socket,
)
from cortex.settings import Settings
from cortex.storage.files import told_if_full
from cortex.storage.sqlite import SqliteLedger
from cortex.storage.uploads import Uploads
from cortex.web.app import create_app
from cortex.web.connections import BoundedConnection
from cortex.worker.kernel import raise_file_limit

logger = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 1
_LAST_LOG_LINES_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.02
_TIDY_SECONDS: Final = 3600.0


def run_operator(settings: Settings, make_placer: MakePlacer | None = None) -> None:
    """Run an operator in the foreground until SIGTERM or SIGINT. Raises StartRefused when it cannot start.

    With `make_placer`, its Workers run where what that makes has stations run.
    """
    check_host(settings)
    raise_file_limit()
    make_placer = make_placer or _placer_of(settings)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It reports every stream that a stop cuts off as a failure; what fails in our own code, web.errors reports.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form, its sender is told
    try:
        with told_if_full(), data_directory(settings.data_dir), listening_socket(settings) as listening:
            with entrance(settings) if make_placer else nullcontext() as stations:
                ledger = uvloop.run(_serve(settings, listening, stations, make_placer or ray_placer))
            ledger.close()  # only now: a timer may go off until the loop has ended
    except StorageFailed as error:
        raise StartRefused(f"`{settings.data_dir}` cannot be used: {error.message}", hint=error.hint) from error


def _placer_of(settings: Settings) -> MakePlacer | None:
    """Tell who places stations for an engine; None for the one that runs Workers on this machine."""
    if settings.engine == "processes":
        return None
    if settings.engine != "ray":
        raise StartRefused(
            f"there is no engine `{settings.engine}`", hint="set --engine to ray, or to processes, or leave it out"
        )
    check_installed()
    return ray_placer


class _Server(uvicorn.Server):
    """Leaves the signals to us: a stop is first the operator's matter, then the HTTP server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    settings: Settings, listening: socket.socket, stations: Entrance | None, make_placer: MakePlacer
) -> SqliteLedger:
    """Serve until a signal ends it; give the ledger, to be closed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    host, port = listening.getsockname()[:2]
    address = address_of(host_from_here(host), port)
    if stations is not None and settings.storage is not None:
        await _check_storage(settings)
    parts = build(settings, address, loop, entrance=stations, make_placer=make_placer)
    draining = parts.operator.draining

    def heed_signal() -> None:
        if stop.is_set():
            draining.cut_short()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, heed_signal)
    about = {
        "engine": settings.engine,
        "data_dir": str(settings.data_dir),
        "address": address,
        "instance": token_hex(16),
        "started_time": rfc3339(time.time_ns()),
        "machine": {"cpu": parts.machine.cpu_cores, "mem": parts.machine.mem_bytes},
    }
    parts.engine.recover()
    parts.operator.recover(_boot_id())
    tempfile.tempdir = str(parts.deployments.uploads)  # large uploads are spooled where there is room for them
    # It listens already, and answers in a moment. What may fail comes before there are connections to look after.
    announce(settings, address_of(host, port), about)
    channels = [await _open_channel(settings.data_dir, parts, stations)]
    server = _Server(
        uvicorn.Config(
            create_app(
                parts.operator,
                parts.uploads,
                addresses=[address_of(each, port) for each in (host, settings.host, *_told_hosts(stations))],
                about=about,
                public_url=settings.public_url,
                keys=parts.keys,
            ),
            log_config=None,
            access_log=False,
            lifespan="off",
            http=BoundedConnection,
            ws="none",
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    syncing = asyncio.create_task(Syncing(parts.jobs).keep())
    tidying = [asyncio.create_task(_remove_stale_uploads(parts.uploads))]
    if parts.operator.budget is not None:
        tidying.append(asyncio.create_task(parts.operator.budget.keep()))
    parts.retention.recover()
    if parts.forwarding:
        parts.forwarding.start()
    parts.operator.stalls.start()
    if parts.storage is not None:
        parts.storage.objects.recover()
    await stop.wait()
    draining.begin()
    await parts.jobs.enqueuing.close()
    await parts.operator.export.close()
    if draining.waiting:
        announce_end(settings, draining.waiting, about)
    while not draining.is_over:
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    syncing.cancel()
    for task in tidying:
        task.cancel()
    parts.engine.end()
    parts.serving.end()
    parts.jobs.workers_ended()
    parts.environments.cancel()
    for channel in channels:
        channel.close()
    if parts.forwarding:
        await asyncio.to_thread(parts.forwarding.close, _LAST_LOG_LINES_SECONDS)
    if parts.storage is not None:
        await parts.storage.close()
    server.should_exit = True
    await serving
    await parts.children.close()
    return parts.ledger


def _told_hosts(stations: Entrance | None) -> tuple[str, ...]:
    """Give the name by which Workers on other machines reach this operator, besides what it listens on."""
    return (stations.host,) if stations else ()


async def _open_channel(data: Path, parts: Parts, stations: Entrance | None) -> asyncio.Server:
    """Let Workers and what has started them speak to this operator: on its socket file, or through their stations."""
    if stations is None or not isinstance(parts.engine, StationEngine):
        return await listen(data / "channel.sock", parts.operator.worker_events, parts.engine)
    return await open_door(
        stations.listening,
        data=data,
        secret=channel_secret(data / "channel.secret"),
        workers=parts.operator.worker_events,
        stations=parts.engine,
        storage=parts.storage,
    )


async def _check_storage(settings: Settings) -> None:
    """Look whether the storage can be used that operator and stations share. Raises StartRefused."""
    children = Children()
    try:
        await depositors(settings, children).check()
    finally:
        await children.close()


async def _remove_stale_uploads(uploads: Uploads) -> None:
    """Remove, every hour, what a client has not gone on with for a day."""
    while True:
        await asyncio.to_thread(uploads.remove_stale, UPLOADS_KEPT)
        await asyncio.sleep(_TIDY_SECONDS)


def _boot_id() -> str:
    """Name this run of the machine; where the kernel has no name for it, by when it began."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))
