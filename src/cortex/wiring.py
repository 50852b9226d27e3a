"""Builds an operator from its settings and runs it: the one place that names what the contracts are kept by."""

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil
import uvicorn

from cortex import __version__
from cortex.domain.errors import DataDirectoryInUse, StartRefused
from cortex.engines.processes import ProcessEngine
from cortex.environments import Environments as UvEnvironments
from cortex.operator.channel import listen
from cortex.operator.deployments import Deployments
from cortex.operator.jobs import Jobs
from cortex.operator.machine import Machine
from cortex.operator.operator import Operator
from cortex.operator.preparation import Environments
from cortex.operator.status import rfc3339
from cortex.settings import Settings
from cortex.storage.sqlite import SqliteLedger
from cortex.web.app import create_app
from cortex.web.guard import is_loopback
from cortex.worker.kernel import raise_file_limit

logger = logging.getLogger(__name__)

_SYNC_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1
_LOCK_ATTEMPTS: Final = 5
_LOCK_RETRY_SECONDS: Final = 0.02
_DRAIN_SECONDS: Final = 3.0
_HOOK_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.02


def run_operator(settings: Settings) -> None:
    """Run an operator in the foreground until SIGTERM or SIGINT. Raises StartRefused when it cannot start."""
    _check_host(settings.host)
    raise_file_limit()
    if settings.engine != "processes":
        raise StartRefused(f"there is no engine `{settings.engine}`", hint="leave --engine out, or set it to processes")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # It reports every stream that a stop cuts off as a failure; what fails in our own code, web.errors reports.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    with _data_directory(settings.data_dir), _listening_socket(settings) as listening:
        asyncio.run(_serve(settings, listening))


def _check_host(host: str) -> None:
    if not is_loopback(host):
        raise StartRefused(
            f"`{host}` can be reached from other machines, and this version has no API keys to keep strangers out",
            hint="use --host 127.0.0.1, and a tunnel such as `ssh -L 8888:127.0.0.1:8888` from elsewhere",
        )


@contextmanager
def _data_directory(path: Path) -> Iterator[None]:
    """Make the data directory, for this user only, and hold it. Raises DataDirectoryInUse."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = os.open(path / "operator.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartRefused(f"the data directory `{path}` cannot be used: {error}") from error
    try:
        _lock(lock, path)
        (path / "operator.json").unlink(missing_ok=True)  # of one that was killed
        yield
        (path / "operator.json").unlink(missing_ok=True)
    finally:
        os.close(lock)


def _lock(lock: int, path: Path) -> None:
    for _ in range(_LOCK_ATTEMPTS):  # a command that looks whether an operator runs holds it for a moment
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_RETRY_SECONDS)
    raise DataDirectoryInUse(
        f"another operator runs on the data directory `{path}`",
        hint="use that one, stop it (`cortex cluster down` for the local one), or choose another --data-dir",
    )


@contextmanager
def _listening_socket(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # Named as TCP, so that asyncio sends small answers at once (TCP_NODELAY) on what it accepts.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
            listening.listen(1024)
        except OSError as error:
            raise StartRefused(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
                hint="choose another --port; 0 takes a free one",
            ) from error
        yield listening


class _Server(uvicorn.Server):
    """Leaves the signals to us: a stop is first the operator's matter, then the HTTP server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = listening.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    started_at_ns = time.time_ns()

    def later(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
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
        call_later=later,
        background=background,
    )
    jobs.engine = engine = ProcessEngine(
        channel=data / "channel.sock",
        log=data / "supervisor.log",
        log_limit_bytes=settings.log_limit_bytes,
        keep_warm_seconds=settings.keep_warm_seconds,
        call_later=later,
        listener=jobs,
    )
    operator = Operator(ledger=ledger, deployments=deployments, jobs=jobs, preparation=environments)
    operator.recover(_boot_id())
    tempfile.tempdir = str(deployments.uploads)  # large uploads are spooled where there is room for them
    channel = await listen(data / "channel.sock", jobs, engine)
    about = {
        "engine": settings.engine,
        "data_dir": str(data),
        "address": address,
        "started_time": rfc3339(started_at_ns),
        "machine": {"cpu": machine.cpu_cores, "mem": machine.mem_bytes},
    }
    server = _Server(
        uvicorn.Config(
            create_app(operator, addresses=[address], about=about),
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    syncing = asyncio.create_task(_sync_now_and_then(jobs))
    _announce(settings, address, about)
    await stop.wait()
    syncing.cancel()
    await _drain(jobs)
    engine.end()
    jobs.workers_ended()
    environments.cancel()
    channel.close()
    server.should_exit = True
    await serving
    ledger.close()


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


def _announce(settings: Settings, address: str, about: Mapping[str, object]) -> None:
    """Tell where the operator listens: whoever looks, whoever reads stdout, whoever waits."""
    path = settings.data_dir / "operator.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"pid": os.getpid(), "version": __version__, **about}), encoding="utf-8")
    new.replace(path)
    print(f"listening on {address}", flush=True)  # noqa: T201 - what `cortex operator` prints
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, address.encode())
        os.close(settings.ready_fd)


def _boot_id() -> str:
    """Name this run of the machine; where the kernel has no name for it, by when it began."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _count_gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
