"""An engine with real supervisors and Workers, and in place of the operator the test: what it hears, it keeps."""

import asyncio
import json
import os
import socket
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import psutil

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Connection, Needs, Program, WorkerOrder
from cortex.engines.model_looks import ModelLooks
from cortex.engines.places import Places
from cortex.engines.processes import ProcessEngine
from cortex.engines.stations import StationEngine
from cortex.operator.channel import listen
from cortex.operator.stations.door import open_door
from cortex.storage.pages import create_page
from local_placer import LocalPlacer
from operator_process import TIMEOUT_SECONDS

JOB: Final = f"{1:016x}"
_SECRET: Final = "what only the operator knows"

T = TypeVar("T")


class Heard:
    """A listener that keeps what it has heard, in the order in which it was told."""

    def __init__(self, log: Path) -> None:
        self.told: list[tuple[str, str]] = []
        self.pids: dict[str, int] = {}
        self.endings: dict[str, Exit] = {}
        self.drained: dict[str, str] = {}  # what was in the log then
        self.connections: dict[str, Connection] = {}
        self.hellos: dict[str, Frame] = {}
        self._log = log
        self._changed = threading.Condition()

    def wait_until(self, is_so: Callable[[], Any], what: str) -> None:
        """Wait until what was heard makes something true."""
        with self._changed:
            assert self._changed.wait_for(is_so, TIMEOUT_SECONDS), f"not {what}; heard: {self.told}"

    def _tell(self, what: str, worker: str) -> None:
        with self._changed:
            self.told.append((what, worker))
            self._changed.notify_all()

    # What engines tell

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        self.pids[worker] = pid
        self._tell("started", worker)

    def worker_drained(self, worker: str) -> None:
        self.drained[worker] = self._log.read_text() if self._log.exists() else ""
        self._tell("drained", worker)

    def worker_exited(self, worker: str, ending: Exit) -> None:
        self.endings[worker] = ending
        self._tell("exited", worker)

    # What Workers do

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        self.connections[worker], self.hellos[worker] = connection, hello
        self._tell("connected", worker)

    def worker_says(self, worker: str, frame: Frame) -> None:
        pass

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        self._tell("disconnected", worker)


class LoneEngine:
    """An engine on a machine of one core; entered, it listens.

    Another one on the same folder is that of the next operator.
    """

    def __init__(self, kind: str, folder: Path, *, port: int = 0) -> None:
        self.folder = JobFolder(folder / "jobs" / JOB)
        self.heard = Heard(self.folder.log)
        self.port = port
        self._data = folder
        self._project = folder / "projects" / "p1"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.engine = self._processes() if kind == "processes" else self._stations()

    def __enter__(self) -> Self:
        for folder in (self._project, self.folder.workers, self.folder.segments):
            folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.do(self.engine.end)
            self.leave()

    def leave(self) -> None:
        """Be gone, as an operator that was killed: what it has started goes on."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        everything: Any = self._loop
        for transport in list(everything._transports.values()):
            if transport._sock is not None:
                transport._sock.close()  # and nobody is told, as they would be if it were done in the loop
                transport._sock = None
        self._server.close()
        self._loop.close()
        if isinstance(self.engine, ProcessEngine) and self.engine._process is not None:
            self.engine._process.returncode = 0  # it outlives this engine: that is what was to be shown

    def do(self, what: Callable[[], T]) -> T:
        """Do something in the thread that the engine belongs to."""

        async def call() -> T:
            return what()

        return self._run(call())

    def order(self, worker: str, predictor: str, **needs: int) -> str:
        """Order a Worker of this predictor; give its name."""
        name = f"{JOB}-{worker}"
        (self._project / "predictor.py").write_text(textwrap.dedent(predictor))
        setup = {
            "config": {},
            "job_spec": {},
            "policy": {"attempts": 1, "no_retry": [], "isolate": False},
            "names_batches": JOB,
            "predictor_type": "python",
            "models": [],
        }
        self.folder.setup.write_text(json.dumps(setup))
        create_page(self.folder, name)
        program = Program(
            python=Path(sys.executable),
            project=self._project,
            predictor_path="predictor.py",
            python_path=None,
            inherited=dict(os.environ),
            env={"CORTEX_JOB_ID": JOB},
            needs=Needs(**needs),
        )
        order = WorkerOrder(worker=name, job_id=JOB, folder=self.folder.root, log=self.folder.log, program=program)
        self.do(lambda: self.engine.start(order))
        return name

    def stop(self, worker: str, *, at_once: bool) -> None:
        """Stop a Worker."""
        self.do(lambda: self.engine.stop(worker, at_once=at_once))

    def tell(self, worker: str, frame: Frame) -> None:
        """Tell a Worker something."""
        self.do(lambda: self.heard.connections[worker].send(frame))

    def log(self) -> str:
        """Give what is in the Job's log."""
        return self.folder.log.read_text() if self.folder.log.exists() else ""

    def wait_for_exit(self, worker: str) -> Exit:
        """Wait until a Worker is told to be gone."""
        self.heard.wait_until(lambda: worker in self.heard.endings, f"{worker} is gone")
        return self.heard.endings[worker]

    def wait_until_ready(self, worker: str) -> psutil.Process:
        """Wait until a Worker has constructed its predictor; give its process."""
        self.heard.wait_until(lambda: {("connected", worker), ("started", worker)} <= {*self.heard.told}, "it is ready")
        assert "ready" == self.heard.hellos[worker]["phase"]
        return psutil.Process(self.heard.pids[worker])

    def _processes(self) -> ProcessEngine:
        return ProcessEngine(
            channel=self._data / "channel.sock",
            log=self._data / "supervisor.log",
            log_limit_bytes=10**6,
            keep_warm_seconds=0,
            heartbeat_seconds=1,
            call_later=self._call_later,
            listener=self.heard,
            places=_places(),
        )

    def _stations(self) -> StationEngine:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        engine = StationEngine(
            secret=_SECRET,
            host="127.0.0.1",
            port=self.port,
            storage=None,
            log_limit_bytes=10**6,
            heartbeat_seconds=1,
            call_later=self._call_later,
            models=ModelLooks(data=self._data, apart=self._apart),
            listener=self.heard,
        )
        engine.placer = LocalPlacer(
            folder=self._data / "nodes", listener=engine, call_later=self._call_later, places=_places()
        )
        return engine

    async def _open(self) -> None:
        self.engine.recover()
        self.may_return_at_first = self.engine.may_return()
        if isinstance(self.engine, ProcessEngine):
            self._server = await listen(self._data / "channel.sock", self.heard, self.engine)
        else:
            self._server = await open_door(
                self._listening, data=self._data, secret=_SECRET, workers=self.heard, stations=self.engine
            )

    def _call_later(self, seconds: float, call: Callable[[], None]) -> Callable[[], None]:
        return self._loop.call_later(seconds, call).cancel

    def _apart(self, read: Callable[[], Any], then: Callable[[Callable[[], Any]], None]) -> None:
        self._loop.run_in_executor(None, read).add_done_callback(lambda reading: then(reading.result))

    def _run(self, what: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(what, self._loop)
        return future.result(TIMEOUT_SECONDS)


def _places() -> Places:
    return Places(millicores=1000, mem_bytes=2**40, devices=(), most_workers=8)
