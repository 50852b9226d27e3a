"""A Job in progress, driven event by event, without processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cortex.domain.batch import BatchState
from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.job import Job, JobStatus
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Elsewhere, Engine, WorkerOrder
from cortex.operator.run.job_run import JobRun
from cortex.operator.run.surroundings import Surroundings
from cortex.storage.ledger import WorkerRecord
from cortex.storage.memory import MemoryLedger
from cortex.storage.segments import States, write_segments
from samples import SETUP

JOB = "67160ace060e3bfa"


class IdleEngine(Engine):
    """An engine that places nothing: the test tells what became of each worker."""

    def __init__(self) -> None:
        self.ordered: list[str] = []
        self.stopped: dict[str, bool] = {}

    def start(self, order: WorkerOrder) -> None:
        self.ordered.append(order.worker)

    def stop(self, worker: str, *, at_once: bool) -> None:
        self.stopped[worker] = at_once


class RecordedExports:
    """Keeps what is to be written, and how to say that it was."""

    def __init__(self, begun: list[Any]) -> None:
        self.begun = begun

    def begin(self, *how: Any) -> None:
        self.begun.append(how)

    def cancel(self, job_id: str) -> None:
        """The test says what came of it."""


class NoExports:
    """Nothing is written anywhere else."""

    def begin(self, *_: Any) -> None:
        raise AssertionError("no job of these tests has its results written")

    def cancel(self, job_id: str) -> None:
        """There is nothing to cancel."""


class Peer:
    """A worker's connection that keeps what it was told."""

    def __init__(self, elsewhere: Elsewhere | None = None) -> None:
        self.elsewhere = elsewhere
        self.heard: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.heard.append(frame)

    @property
    def said(self) -> list[str]:
        return [frame["type"] for frame in self.heard]


class Story:
    """One job of a few batches, and the operators that run it one after the other."""

    def __init__(self, root: Path, batches: int = 2, workers: int = 1, *, batch_size: int = 1, **more: Any) -> None:
        self.folder = JobFolder(root / JOB)
        self.ledger = MemoryLedger()
        self.ended: list[Job] = []
        self.exported: list[Any] = []
        self.later: list[Callable[[], None]] = []
        self.now_ns = 3
        self.segments = write_segments(self.folder, [_payload(number, batch_size) for number in range(batches)])
        job = Job(
            id=JOB,
            api_name="api",
            api_id="v1",
            workers=workers,
            config=None,
            batch_size=batch_size,
            item_count=batches * batch_size,
            total_batch_count=batches,
            status=JobStatus.ENQUEUING,
            created_at_ns=1,
            **more,
        )
        self.ledger.add_job(job, self.segments)
        self.ledger.move(JOB, JobStatus.RUNNING, at_ns=2)
        self.tokens = iter(range(1, 1000))
        self.run = self.operator()

    def operator(self) -> JobRun:
        """Start the next operator, as after a kill -9 of the one before."""
        self.engine = IdleEngine()
        job = self.ledger.job(JOB)
        assert job is not None
        missing = {record.worker for record in self.ledger.workers(JOB)}
        self.run = JobRun(
            job=job,
            folder=self.folder,
            next_token=lambda: next(self.tokens),
            around=Surroundings(
                ledger=self.ledger,
                engine=self.engine,
                now_ns=lambda: self.now_ns,
                call_later=lambda _, call: self.later.append(call) or (lambda: None),
                background=lambda work, then: (work(), self.event(then))[0],
                exports=RecordedExports(self.exported),
                event=self.event,
            ),
            ended=self.ended.append,
            missing=missing,
        )
        self.run.environment_ready(SETUP)
        return self.run

    def event(self, handle: Callable[..., object], *facts: Any, of: JobRun | None = None) -> None:
        """Handle what has happened."""
        handle(*facts)

    def started(self, worker: str) -> None:
        record = WorkerRecord(worker=worker, job_id=JOB, supervisor="s", pid=1, process_started_at=1.0)
        self.run.worker_started(worker, record)

    def ready(self, worker: str, *, has_hook: bool) -> Peer:
        peer = Peer()
        self.run.worker_connected(worker, peer, {"type": "hello", "phase": "ready", "has_hook": has_hook})
        return peer

    def finish_lease(self, worker: str, peer: Peer, *, seconds: float = 1) -> None:
        """Do what a worker does with the lease that it was last told of."""
        lease = peer.heard[-1]
        assert lease["type"] == "lease"
        for batch in range(lease["first"], lease["end"]):
            States(self.folder, self.segments[0]).store(batch, BatchState.SUCCEEDED)
        ended = {
            "type": "lease_ended",
            "token": lease["token"],
            "finished": lease["end"] - lease["first"],
            "seconds": seconds,
        }
        self.run.worker_says(worker, ended)

    def write_page(self, worker: str, word: int, value: int) -> None:
        with self.folder.page(worker).open("r+b") as page:
            page.seek(8 * word)
            page.write(value.to_bytes(8, "little"))

    def leave(self, worker: str, status: int = 0) -> None:
        self.run.worker_drained(worker)
        self.run.worker_exited(worker, Exit(status=status))

    def at_the_hook(self) -> tuple[str, Peer]:
        """Tell the story up to where a worker has been told to run the hook."""
        (worker,) = self.engine.ordered
        self.started(worker)
        peer = self.ready(worker, has_hook=True)
        while peer.said[-1] == "lease":
            self.finish_lease(worker, peer)
        assert peer.said[-1] == "run_hook"
        return worker, peer


def _payload(batch: int, batch_size: int) -> bytes:
    return json.dumps(list(range(batch * batch_size, (batch + 1) * batch_size))).encode()
