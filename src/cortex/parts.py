"""The parts of an operator, built from its settings: the one place that names what the contracts are kept by."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from cortex.child_process.children import Children
from cortex.depositing.places import root_of
from cortex.depositing.process import Depositors
from cortex.domain.errors import CortexError, StartRefused
from cortex.domain.job import Job
from cortex.engines.devices import gpus_of_machine
from cortex.engines.model_looks import ModelLooks
from cortex.engines.placement import PlacementListener, Placer
from cortex.engines.places import Places
from cortex.engines.processes import ProcessEngine
from cortex.engines.ray.client import RayPlacer
from cortex.engines.share import our_cores, our_memory_bytes
from cortex.engines.stations import StationEngine
from cortex.enqueuing.process import Enqueuers
from cortex.environments import Environments as UvEnvironments
from cortex.exporting.process import PATIENCE_SECONDS, Exporters
from cortex.fetching.process import Fetchers
from cortex.fetching.stock import ModelStock
from cortex.files.address import read_address
from cortex.files.places import AllFiles
from cortex.operator.deployments import Deployments
from cortex.operator.export import JobExport
from cortex.operator.joblog import append_line
from cortex.operator.jobs import Jobs
from cortex.operator.keys import Keys
from cortex.operator.machine import Machine
from cortex.operator.models import Models
from cortex.operator.operator import Operator
from cortex.operator.preparation import Environments, Prepared
from cortex.operator.stations.copies import Copies
from cortex.operator.stations.objects import Objects, Shared
from cortex.operator.stations.secret import channel_secret
from cortex.operator.stations.storage import Storage
from cortex.operator.submitting.datasets import Datasets
from cortex.operator.submitting.enqueuing import JobEnqueuing
from cortex.operator.submitting.rerun import Reruns
from cortex.operator.upkeep.budget import DiskBudget
from cortex.operator.upkeep.deadlines import Deadlines
from cortex.operator.upkeep.draining import Draining
from cortex.operator.upkeep.forwarding import Forwarding
from cortex.operator.upkeep.prune import Prune
from cortex.operator.upkeep.retention import Retention
from cortex.operator.upkeep.sinks import LogSink, PartsSink, StdoutSink
from cortex.operator.upkeep.stall_watch import StallWatch
from cortex.operator.worker_events import WorkerRoutes
from cortex.premises import LEDGER, Entrance, address_of
from cortex.serving.replica_order import ReplicaSetup
from cortex.serving.serving import Serving
from cortex.serving.surroundings import Surroundings
from cortex.settings import Settings
from cortex.storage.ledger import Version
from cortex.storage.sqlite import SqliteLedger
from cortex.storage.uploads import Uploads

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0

_LOOKERS: Final = 8
"""So many threads look at users' models, of which some may lie on a disk that does not answer."""

MakePlacer = Callable[[Settings, PlacementListener], Placer]
"""Makes what places stations; called in the operator's loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An operator with what it stands on."""

    ledger: SqliteLedger
    machine: Machine
    environments: Environments
    deployments: Deployments
    jobs: Jobs
    serving: Serving
    engine: ProcessEngine | StationEngine
    uploads: Uploads
    keys: Keys | None
    retention: Retention
    forwarding: Forwarding | None
    children: Children
    storage: Storage | None
    operator: Operator


def ray_placer(settings: Settings, listener: PlacementListener) -> Placer:
    """Make what has stations run on the machines of a Ray cluster."""
    return RayPlacer(
        data=settings.data_dir,
        address=settings.ray_address,
        listener=listener,
        keep_warm_seconds=settings.keep_warm_seconds,
    )


def build(
    settings: Settings,
    address: str,
    loop: asyncio.AbstractEventLoop,
    *,
    entrance: Entrance | None = None,
    make_placer: MakePlacer = ray_placer,
) -> Parts:
    """Build an operator that is reached at this address, and works in this loop. Raises StartRefused.

    With an entrance for stations, Workers run on other machines, where what `make_placer` makes has stations run.
    """

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

    lookers = ThreadPoolExecutor(_LOOKERS, "looker")

    def apart(read: Callable[[], Any], then: Callable[[Callable[[], Any]], None]) -> None:
        def done(reading: asyncio.Future[Any]) -> None:
            reading.exception()  # else Python complains where nobody is left who asks
            then(reading.result)

        loop.run_in_executor(lookers, read).add_done_callback(done)

    data = settings.data_dir
    ledger = SqliteLedger(data / LEDGER)
    gpus = gpus_of_machine(os.environ)
    machine = Machine(
        cpu_cores=our_cores(len(os.sched_getaffinity(0))),
        mem_bytes=our_memory_bytes(psutil.virtual_memory().total),
        gpus=len(gpus),
        is_all=entrance is None,
    )
    deployments = Deployments(
        ledger=ledger,
        root=data / "projects",
        uploads=data / "uploads",
        machine=machine,
        now_ns=time.time_ns,
        background=background,
        also_needed=lambda: serving.project_ids(),
    )
    keys = None
    if settings.api_key:
        keys = Keys(key=settings.api_key, ledger=ledger, is_deployed=deployments.is_deployed)
    stock = UvEnvironments(data)
    children = Children()
    fetchers = Fetchers(
        children=children,
        models=data / "models",
        unfinished=data / "uploads",
        log=data / "fetching.log",
        allowed=settings.allowed_paths,
    )
    environments = Environments(
        builder=stock,
        models=Models(source=fetchers),
        own_python=Path(sys.executable),
        machine=machine,
        projects=data / "projects",
        inherited=dict(os.environ),
        operator_endpoint=_address_for_workers(settings, address, entrance),
        keys=keys,
    )
    uploads = Uploads(root=data / "incoming", limit_bytes=settings.max_upload_bytes)
    uploads.recover()
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
        models=ModelStock(root=fetchers.models, is_at_work=lambda: environments.is_at_work),
        apis=data / "apis",
        key=environments.key,
        now_ns=time.time_ns,
        is_held=is_held,
    )
    limit_bytes = settings.disk_budget_bytes
    budget = DiskBudget(limit_bytes=limit_bytes, data=data, ledger=ledger, prune=prune) if limit_bytes else None
    deadlines = Deadlines(now_ns=time.time_ns, call_later=call_later, is_over=jobs.time_is_over)
    storage = _shared_storage(settings, children, ledger) if entrance and settings.storage else None
    jobs.recorded = partial(_watch, jobs, retention, deadlines, forwarding, storage)

    around_apis = Surroundings(
        now_ns=time.monotonic_ns,
        call_later=call_later,
        background=background,
        append_line=append_line,
        set_up=partial(_set_up, environments),
    )
    serving = Serving(root=data / "apis", around=around_apis)
    routes = WorkerRoutes(jobs=jobs.worker_events, serving=serving)
    engine: ProcessEngine | StationEngine
    if entrance is None:
        engine = ProcessEngine(
            channel=data / "channel.sock",
            log=data / "supervisor.log",
            log_limit_bytes=settings.log_limit_bytes,
            keep_warm_seconds=settings.keep_warm_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            call_later=call_later,
            listener=routes,
            places=Places(
                millicores=machine.millicores,
                mem_bytes=machine.mem_bytes,
                devices=gpus,
                most_workers=machine.most_workers,
            ),
        )
    else:
        engine = StationEngine(
            secret=channel_secret(data / "channel.secret"),
            host=entrance.host,
            port=entrance.port,
            storage=None if storage is None else {"url": storage.root},
            log_limit_bytes=settings.log_limit_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            call_later=call_later,
            models=ModelLooks(data=data, apart=apart),
            listener=routes,
        )
        engine.placer = make_placer(settings, engine)
    jobs.engine = around_apis.engine = engine
    draining = Draining(jobs=jobs, serving=serving, grace_seconds=settings.grace_seconds, monotonic=time.monotonic)
    operator = Operator(
        ledger=ledger,
        deployments=deployments,
        jobs=jobs,
        serving=serving,
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
    return Parts(
        ledger=ledger,
        machine=machine,
        environments=environments,
        deployments=deployments,
        jobs=jobs,
        serving=serving,
        engine=engine,
        uploads=uploads,
        keys=keys,
        retention=retention,
        forwarding=forwarding,
        children=children,
        storage=storage,
        operator=operator,
    )


def _set_up(
    environments: Environments,
    version: Version,
    log: Callable[[str], None],
    done: Callable[[ReplicaSetup | CortexError], None],
) -> None:
    """Make ready what the replicas of a version are started with."""

    def prepared(outcome: Prepared | CortexError) -> None:
        done(outcome if isinstance(outcome, CortexError) else environments.replica_setup(version, outcome))

    environments.prepare(version, log, prepared)


def _address_for_workers(settings: Settings, address: str, entrance: Entrance | None) -> str:
    """Give the URL by which Workers reach the operator; those on other machines reach no loopback address of it."""
    if entrance is None:
        return address
    return settings.public_url or address_of(entrance.host, urlsplit(address).port or 80)


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


def depositors(settings: Settings, children: Children) -> Depositors:
    """Make who brings things to the storage that operator and stations share: the settings name one."""
    return Depositors(
        children=children, root=root_of(_place(settings), settings.data_dir), log=settings.data_dir / "depositing.log"
    )


def _place(settings: Settings) -> str:
    storage = settings.storage or {}
    return str(storage.get("url") or storage["path"])


def _shared_storage(settings: Settings, children: Children, ledger: SqliteLedger) -> Storage:
    depositing = depositors(settings, children)

    def is_in_progress(job_id: str) -> bool:
        job = ledger.job(job_id)
        return job is not None and not job.is_final

    shared = Shared.find(settings.data_dir, _place(settings))
    objects = Objects(depositing=depositing, shared=shared, is_in_progress=is_in_progress)
    return Storage(root=depositing.root, objects=objects, copies=Copies(copying=depositing))


def _watch(
    jobs: Jobs,
    retention: Retention,
    deadlines: Deadlines,
    forwarding: Forwarding | None,
    storage: Storage | None,
    job: Job,
) -> None:
    """Follow a Job that has been recorded, and tell when it has ended."""
    if forwarding is not None:
        forwarding.follow(job)
        jobs.watch(job.id, partial(forwarding.job_ended, job.id))
    deadlines.follow(job)
    jobs.watch(job.id, partial(deadlines.forget, job.id))
    jobs.watch(job.id, partial(retention.job_ended, job))
    if storage is not None:
        jobs.watch(job.id, partial(storage.objects.job_ended, job.id))
