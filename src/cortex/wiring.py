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
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

import psutil
import uvicorn

from cortex.child_process.children import Children
from cortex.domain.errors import StartRefused, StorageFailed
from cortex.domain.job import Job
from cortex.engines.devices import gpus_of_machine
from cortex.engines.places import Places
from cortex.engines.processes import ProcessEngine
from cortex.engines.share import our_cores, our_memory_bytes
from cortex.enqueuing.process import Enqueuers
from cortex.environments import Environments as UvEnvironments
from cortex.exporting.process import PATIENCE_SECONDS, Exporters
from cortex.files.address import read_address
from cortex.files.places import AllFiles
from cortex.operator.channel import open_channels
from cortex.operator.deployments import Deployments
from cortex.operator.export import JobExport
from cortex.operator.jobs import Jobs
from cortex.operator.keys import Keys
from cortex.operator.machine import Machine
from cortex.operator.operator import Operator
from cortex.operator.preparation import Environments
from cortex.operator.status import rfc3339
from cortex.operator.submitting.datasets import Datasets
from cortex.operator.submitting.enqueuing import JobEnqueuing
from cortex.operator.submitting.rerun import Reruns
from cortex.operator.upkeep.budget import DiskBudget
from cortex.operator.upkeep.deadlines import Deadlines
from cortex.operator.upkeep.draining import Draining
from cortex.operator.upkeep.forwarding import Forwarding
from cortex.operator.upkeep.prune import UPLOADS_KEPT, Prune
from cortex.operator.upkeep.retention import Retention
from cortex.operator.upkeep.sinks import LogSink, PartsSink, StdoutSink
from cortex.operator.upkeep.stall_watch import StallWatch
from cortex.operator.upkeep.syncing import Syncing
from cortex.premises import (
    LEDGER,
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

_RETRY_SECONDS: Final = 1.0
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
            ledger = asyncio.run(_serve(settings, listening))
            ledger.close()  # only now: a timer may go off until the loop has ended
    except StorageFailed as error:
        raise StartRefused(f"`{settings.data_dir}` cannot be used: {error.message}", hint=error.hint) from error


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
    uploads: Uploads
    keys: Keys | None
    retention: Retention
    forwarding: Forwarding | None
    children: Children
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
    ledger = SqliteLedger(data / LEDGER)
    gpus = gpus_of_machine(os.environ)
    machine = Machine(
        cpu_cores=our_cores(len(os.sched_getaffinity(0))),
        mem_bytes=our_memory_bytes(psutil.virtual_memory().total),
        gpus=len(gpus),
    )
    keys = Keys(key=settings.api_key, ledger=ledger) if settings.api_key else None
    stock = UvEnvironments(data)
    environments = Environments(
        builder=stock,
        own_python=Path(sys.executable),
        machine=machine,
        projects=data / "projects",
        inherited=dict(os.environ),
        operator_endpoint=address,
        keys=keys,
    )
    deployments = Deployments(
        ledger=ledger,
        root=data / "projects",
        uploads=data / "uploads",
        machine=machine,
        now_ns=time.time_ns,
        background=background,
    )
    uploads = Uploads(root=data / "incoming", limit_bytes=settings.max_upload_bytes)
    uploads.recover()
    children = Children()
    enqueuers = Enqueuers(children=children, log=data / "enqueuing.log")
    exporters = Exporters(children=children, log=data / "exporting.log", patience_seconds=_export_patience_seconds())
    export = JobExport(ledger=ledger, exporters=exporters, allowed=settings.allowed_paths, now_ns=time.time_ns)
    jobs = Jobs(
        ledger=ledger,
        root=data / "jobs",
        enqueuing=JobEnqueuing(ledger=ledger, enqueuers=enqueuers, allowed=settings.allowed_paths),
        exports=export,
        preparation=environments,
        now_ns=time.time_ns,
        call_later=call_later,
        background=background,
    )
    sink = _log_sink(settings)
    forwarding = Forwarding(sink=sink, root=jobs.root) if sink else None
    reruns = Reruns(ledger=ledger, jobs=jobs, deployments=deployments)

    def is_held(job_id: str) -> bool:
        return reruns.is_held(job_id) or (forwarding is not None and forwarding.is_held(job_id))

    retention = Retention(
        ledger=ledger,
        keep=settings.keep_jobs,
        root=jobs.root,
        now_ns=time.time_ns,
        call_later=call_later,
        background=background,
        forgotten=deployments.remove_unneeded,
        is_held=is_held,
    )
    prune = Prune(
        ledger=ledger,
        root=jobs.root,
        trash=deployments.uploads,
        deployments=deployments,
        uploads=uploads,
        stock=stock,
        key=environments.key,
        now_ns=time.time_ns,
        is_held=is_held,
    )
    limit_bytes = settings.disk_budget_bytes
    budget = DiskBudget(limit_bytes=limit_bytes, data=data, ledger=ledger, prune=prune) if limit_bytes else None
    deadlines = Deadlines(now_ns=time.time_ns, call_later=call_later, is_over=jobs.time_is_over)
    jobs.recorded = partial(_watch, jobs, retention, deadlines, forwarding)
    jobs.engine = engine = ProcessEngine(
        channel=data / "channel.sock",
        log=data / "supervisor.log",
        log_limit_bytes=settings.log_limit_bytes,
        keep_warm_seconds=settings.keep_warm_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        call_later=call_later,
        listener=jobs.worker_events,
        places=Places(
            millicores=machine.millicores,
            mem_bytes=machine.mem_bytes,
            devices=gpus,
            most_workers=machine.most_workers,
        ),
    )
    draining = Draining(jobs=jobs, grace_seconds=settings.grace_seconds, monotonic=time.monotonic)
    operator = Operator(
        ledger=ledger,
        deployments=deployments,
        jobs=jobs,
        preparation=environments,
        datasets=Datasets(
            enqueuers=enqueuers, exporters=exporters, uploads=uploads, allowed=settings.allowed_paths, data=data
        ),
        export=export,
        prune=prune,
        budget=budget,
        reruns=reruns,
        draining=draining,
        stalls=StallWatch(
            jobs=jobs,
            stall_seconds=settings.stall_seconds,
            now_ns=time.time_ns,
            call_later=call_later,
            is_draining=lambda: draining.has_begun,
            exporting=export.progress,
        ),
    )
    return _Parts(
        ledger=ledger,
        machine=machine,
        environments=environments,
        deployments=deployments,
        jobs=jobs,
        engine=engine,
        uploads=uploads,
        keys=keys,
        retention=retention,
        forwarding=forwarding,
        children=children,
        operator=operator,
    )


def _export_patience_seconds() -> float:
    """Say how long a storage that takes no results is asked again: tests have less time than its keepers."""
    return float(os.environ.get("CORTEX_EXPORT_PATIENCE_SECONDS", PATIENCE_SECONDS))


def _log_sink(settings: Settings) -> LogSink | None:
    if settings.log_sink is None or settings.log_sink == "stdout":
        return StdoutSink() if settings.log_sink else None
    try:
        read_address(settings.log_sink)
    except ValueError as error:
        raise StartRefused(f"--log-sink: {error}") from error
    return PartsSink(files=AllFiles(), prefix=settings.log_sink)


def _watch(jobs: Jobs, retention: Retention, deadlines: Deadlines, forwarding: Forwarding | None, job: Job) -> None:
    """Follow a Job that has been recorded, and tell when it has ended."""
    if forwarding is not None:
        forwarding.follow(job)
        jobs.watch(job.id, partial(forwarding.job_ended, job.id))
    deadlines.follow(job)
    jobs.watch(job.id, partial(deadlines.forget, job.id))
    jobs.watch(job.id, partial(retention.job_ended, job))


async def _serve(settings: Settings, listening: socket.socket) -> SqliteLedger:
    """Serve until a signal ends it; give the ledger, to be closed."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    host, port = listening.getsockname()[:2]
    address = address_of(host_from_here(host), port)
    parts = _build(settings, address, loop)
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
