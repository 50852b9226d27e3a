"""Runs an operator, from its first breath to its last."""

import asyncio
import logging
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Final

import psutil
import uvicorn
import uvloop

from cortex.domain.errors import StartRefused, StorageFailed
from cortex.operator.channel import open_channels
from cortex.operator.status import rfc3339
from cortex.operator.upkeep.prune import UPLOADS_KEPT
from cortex.operator.upkeep.syncing import Syncing
from cortex.parts import build
from cortex.premises import (
    address_of,
    announce,
    announce_end,
    check_host,
    data_directory,
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


def run_operator(settings: Settings) -> None:
    """Run an operator in the foreground until SIGTERM or SIGINT. Raises StartRefused when it cannot start."""
    check_host(settings)
    raise_file_limit()
    if settings.engine != "processes":
        raise StartRefused(f"there is no engine `{settings.engine}`", hint="leave --engine out, or set it to processes")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It reports every stream that a stop cuts off as a failure; what fails in our own code, web.errors reports.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form, its sender is told
    try:
        with told_if_full(), data_directory(settings.data_dir), listening_socket(settings) as listening:
            ledger = uvloop.run(_serve(settings, listening))
            ledger.close()  # only now: a timer may go off until the loop has ended
    except StorageFailed as error:
        raise StartRefused(f"`{settings.data_dir}` cannot be used: {error.message}", hint=error.hint) from error


class _Server(uvicorn.Server):
    """Leaves the signals to us: a stop is first the operator's matter, then the HTTP server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, listening: socket.socket) -> SqliteLedger:
    """Serve until a signal ends it; give the ledger, to be closed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    host, port = listening.getsockname()[:2]
    address = address_of(host_from_here(host), port)
    parts = build(settings, address, loop)
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
    channels = await open_channels(settings.data_dir, settings.channel_tcp, parts.operator.worker_events, parts.engine)
    server = _Server(
        uvicorn.Config(
            create_app(
                parts.operator,
                parts.uploads,
                addresses=[address_of(host, port), address_of(settings.host, port)],
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
    server.should_exit = True
    await serving
    await parts.children.close()
    return parts.ledger


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
