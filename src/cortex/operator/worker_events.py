"""Brings what Workers say, and what is said of them, to the Jobs that they work for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.engine import Connection, EngineListener
from cortex.operator.run.job_run import JobRun
from cortex.operator.run.surroundings import Surroundings
from cortex.serving.serving import Serving, is_of_replica
from cortex.storage.ledger import WorkerRecord


@dataclass(slots=True, kw_only=True)
class WorkerEvents(EngineListener):
    """See the module. The id of a Worker begins with that of its Job."""

    runs: Mapping[str, JobRun]
    around: Callable[[], Surroundings]
    event: Callable[..., None]  # handles it, again and again if need be
    maybe_idle: Callable[[], None]
    lease_ended: Callable[[str], None] = lambda _: None  # told of the Job each time

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself."""
        run = self._run_of(worker)
        if run is None:
            connection.send({"type": "end"})
        else:
            self.event(run.worker_connected, worker, connection, hello, of=run)

    def worker_says(self, worker: str, frame: Frame) -> None:
        """A Worker tells of its life."""
        if run := self._run_of(worker):
            self.event(run.worker_says, worker, frame, of=run)
            if frame["type"] == "lease_ended":
                self.lease_ended(run.job.id)

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """The connection of a Worker is closed."""
        if run := self._run_of(worker):
            run.worker_disconnected(worker, connection)

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        """See EngineListener."""
        run = self._run_of(worker)
        if run is None:
            self.around().engine.stop(worker, at_once=True)
            return
        record = WorkerRecord(
            worker=worker, job_id=run.job.id, supervisor=supervisor, pid=pid, process_started_at=process_started_at
        )
        self.event(run.worker_started, worker, record, node, of=run)

    def worker_drained(self, worker: str) -> None:
        """See EngineListener."""
        if run := self._run_of(worker):
            self.event(run.worker_drained, worker, of=run)

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """See EngineListener."""
        if run := self._run_of(worker):
            self.event(run.worker_exited, worker, ending, of=run)
        else:
            self.event(self.around().ledger.end_worker, worker)
        self.maybe_idle()

    def _run_of(self, worker: str) -> JobRun | None:
        return self.runs.get(worker.partition("-")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRoutes(EngineListener):
    """Tells Workers of Jobs from processes of replicas, by their names."""

    jobs: WorkerEvents
    serving: Serving

    def worker_connected(self, worker: str, connection: Connection, hello: Frame) -> None:
        """A Worker introduces itself."""
        (self.serving.connected if is_of_replica(worker) else self.jobs.worker_connected)(worker, connection, hello)

    def worker_says(self, worker: str, frame: Frame) -> None:
        """A Worker tells of its life, or has answered a request."""
        (self.serving.says if is_of_replica(worker) else self.jobs.worker_says)(worker, frame)

    def worker_disconnected(self, worker: str, connection: Connection) -> None:
        """The connection of a Worker is closed."""
        (self.serving.disconnected if is_of_replica(worker) else self.jobs.worker_disconnected)(worker, connection)

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        """See EngineListener."""
        if is_of_replica(worker):
            self.serving.started(worker)
        else:
            self.jobs.worker_started(
                worker, pid=pid, process_started_at=process_started_at, supervisor=supervisor, node=node
            )

    def worker_drained(self, worker: str) -> None:
        """See EngineListener."""
        if not is_of_replica(worker):
            self.jobs.worker_drained(worker)

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """See EngineListener."""
        if is_of_replica(worker):
            self.serving.exited(worker, ending)
            self.jobs.maybe_idle()
        else:
            self.jobs.worker_exited(worker, ending)
