"""Builds an operator from its settings and runs it: the one place that names what the contracts are kept by."""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import uvicorn

from cortex.domain.errors import StartRefused
from cortex.engines.processes import ProcessEngine
from cortex.environments import Environments as UvEnvironments
from cortex.operator.channel import listen
from cortex.operator.deployments import Deployments
from cortex.operator.jobs import Jobs
from cortex.operator.machine import Machine
from cortex.operator.operator import Operator
from cortex.operator.preparation import Environments
from cortex.operator.status import rfc3339
from cortex.premises import announce, check_host, data_directory, listening_socket
from cortex.settings import Settings
from cortex.storage.sqlite import SqliteLedger
from cortex.web.app import create_app
from cortex.worker.kernel import raise_file_limit

logger = logging.getLogger(__name__)

_SYNC_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1
_DRAIN_SECONDS: Final = 3.0
_HOOK_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.02


def run_operator(settings: Settings) -> None:
    """Run an operator in the foreground until SIGTERM or SIGINT. Raises StartRefused when it cannot start."""
    check_host(settings.host)
    raise_file_limit()
    if settings.engine != "processes":
        raise StartRefused(f"there is no engine `{settings.engine}`", hint="leave --engine out, or set it to processes")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It reports every stream that a stop cuts off as a failure; what fails in our own code, web.errors reports.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with data_directory(settings.data_dir), listening_socket(settings) as listening:
        asyncio.run(_serve(settings, listening))


class _Server(uvicorn.Server):
    """Leaves the signals to us: a stop is first the operator's matter, then the HTTP server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """An operator with what it stands on."""

    ledger: SqliteLedger
    machine: Machine
    environments: Environments
    deployments: Deployments
    jobs: Jobs
    engine: ProcessEngine
    operator: Operator


def _build(settings: Settings, address: str, loop: asyncio.AbstractEventLoop) -> _Parts:
    def call_later(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        return loop.call_later(seconds, call).cancel

    def background(work: Callable[[], None], then: Callable[[], None]) -> None:
        def done(future: asyncio.Future[None]) -> None:
            try:
                future.result()
                then()
            except Exception:
                logger.exception("work in the background failed and is tried again")
                loop.call_later(_RETRY_SECONDS, background, work, then)

        loop.run_in_executor(None, work).add_done_callback(done)

    data = settings.data_dir
    ledger = SqliteLedger(data / "ledger.sqlite")
    machine = Machine(cpu_cores=os.cpu_count() or 1, mem_bytes=psutil.virtual_memory().total, gpus=_count_gpus())
    environments = Environments(
        builder=UvEnvironments(data),
        own_python=Path(sys.executable),
        machine=machine,
        projects=data / "projects",
        inherited=dict(os.environ),
        operator_endpoint=address,
    )
    deployments = Deployments(
        ledger=ledger,
        root=data / "projects",
        uploads=data / "uploads",
        machine=machine,
        now_ns=time.time_ns,
        background=background,
    )
    jobs = Jobs(
        ledger=ledger,
        root=data / "jobs",
        preparation=environments,
        now_ns=time.time_ns,
        call_later=call_later,
        background=background,
    )
    jobs.engine = engine = ProcessEngine(
        channel=data / "channel.sock",
        log=data / "supervisor.log",
        log_limit_bytes=settings.log_limit_bytes,
        keep_warm_seconds=settings.keep_warm_seconds,
        call_later=call_later,
        listener=jobs,
    )
    operator = Operator(ledger=ledger, deployments=deployments, jobs=jobs, preparation=environments)
    return _Parts(
        ledger=ledger,
        machine=machine,
        environments=environments,
        deployments=deployments,
        jobs=jobs,
        engine=engine,
        operator=operator,
    )


async def _serve(settings: Settings, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    parts = _build(settings, address, loop)
    about = {
        "engine": settings.engine,
        "data_dir": str(settings.data_dir),
        "address": address,
        "started_time": rfc3339(time.time_ns()),
        "machine": {"cpu": parts.machine.cpu_cores, "mem": parts.machine.mem_bytes},
    }
    parts.operator.recover(_boot_id())
    tempfile.tempdir = str(parts.deployments.uploads)  # large uploads are spooled where there is room for them
    channel = await listen(settings.data_dir / "channel.sock", parts.jobs, parts.engine)
    server = _Server(
        uvicorn.Config(
            create_app(parts.operator, addresses=[address], about=about),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    syncing = asyncio.create_task(_sync_now_and_then(parts.jobs))
    announce(settings, address, about)
    await stop.wait()
    syncing.cancel()
    await _drain(parts.jobs)
    parts.engine.end()
    parts.jobs.workers_ended()
    parts.environments.cancel()
    channel.close()
    server.should_exit = True
    await serving
    parts.ledger.close()


async def _drain(jobs: Jobs) -> None:
    """Let Workers finish what they are in, for a moment: a Batch that is cut off runs again later.

    A hook is not run again, so it gets more time.
    """
    jobs.pause()
    began_at = time.monotonic()
    while not jobs.is_quiet:
        patience = _HOOK_SECONDS if jobs.is_in_a_hook else _DRAIN_SECONDS
        if time.monotonic() > began_at + patience:
            return
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def _sync_now_and_then(jobs: Jobs) -> None:
    """Bring what has ended to the disk every second, so that a power cut costs no more than that."""
    while True:
        await asyncio.sleep(_SYNC_SECONDS)
        with suppress(OSError):  # a Job that ends syncs again, and waits until it can
            await asyncio.to_thread(jobs.sync)


def _boot_id() -> str:
    """Name this run of the machine; where the kernel has no name for it, by when it began."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _count_gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
