"""A job on a disk that is full now and then: each write fails once, and what has happened is handled again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import ENTRY, BatchState, EntryKind, Page, ResultEntry
from cortex.domain.ending import Exit
from cortex.domain.errors import StorageFull
from cortex.domain.job import JobStatus
from cortex.domain.policy import Policy, Retries
from cortex.operator.run import crew, dispatch
from cortex.operator.run.job_run import JobRun
from cortex.storage import segments
from cortex.storage.memory import MemoryLedger
from cortex.storage.segments import States
from job_story import JOB, Peer, Story

POLICY = Policy(retries=Retries(attempts=2, backoff_seconds=0.0))


class Disk:
    """Fails at one of the writes."""

    def __init__(self, failing: int) -> None:
        self.writes = 0
        self.failing = failing
        self.has_failed: str | None = None

    def around(self, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        write = getattr(owner, name)

        def writing(*facts: Any, **named: Any) -> Any:
            self.writes += 1
            if self.writes == self.failing:
                self.has_failed = name
                raise StorageFull("the disk is full")
            return write(*facts, **named)

        monkeypatch.setattr(owner, name, writing)


class Persistent(Story):
    """Handles again what has failed, as the operator does."""

    def event(self, handle: Callable[..., object], *facts: Any, of: JobRun | None = None) -> None:
        try:
            handle(*facts)
        except StorageFull:
            handle(*facts)

    def tell(self) -> None:
        """Tell a story of two workers: a batch is the death of one, another raises, and the last worker has a hook."""
        self.event(self.run.go_on)
        first, second = self.engine.ordered[:2]
        peers = {worker: self.enter(worker) for worker in (first, second)}
        self.write_page(first, Page.CURRENT, peers[first].heard[-1]["first"] + 1)
        self.exit(first, Exit(status=-9))
        raised = self.end_lease(second, peers[second], raising=True)
        self.ring()
        third = self.engine.ordered[2]
        peers[third] = self.enter(third)
        for _ in range(6):
            for worker in (second, third):
                if peers[worker].said[-1] == "lease":
                    self.end_lease(worker, peers[worker], raising=False)
            self.ring()
        assert [BatchState.SUCCEEDED] * 6 == list(States(self.folder, self.segments[0]).read())
        assert 1 == self.run.attempts.accounts.attempts_used(raised)
        (hooked,) = [worker for worker in (second, third) if peers[worker].said[-1] == "run_hook"]
        self.event(self.run.worker_says, hooked, {"type": "hook_ended", "error": None})
        for worker in (second, third):
            self.exit(worker, Exit(status=0))

    def enter(self, worker: str) -> Peer:
        peer = Peer()
        hello = {"type": "hello", "phase": "ready", "has_hook": True}
        self.event(lambda: self.started(worker))
        self.event(self.run.worker_connected, worker, peer, hello)
        return peer

    def end_lease(self, worker: str, peer: Peer, *, raising: bool) -> int:
        lease = peer.heard[-1]
        first: int = lease["first"]
        if raising:
            with self.folder.index(worker).open("ab") as index:
                index.write(ENTRY.pack(*ResultEntry(first, lease["token"], 0, 0, 1, EntryKind.FAILURE, 0)))
        with self.folder.states(0).open("r+b") as states:
            states.seek(first + raising)
            states.write(bytes([BatchState.SUCCEEDED]) * (lease["end"] - first - raising))
        told = {"finished": lease["end"] - first - raising, "seconds": 1e9}
        self.event(self.run.worker_says, worker, {"type": "lease_ended", "token": lease["token"], **told})
        return first

    def exit(self, worker: str, ending: Exit) -> None:
        self.event(self.run.worker_drained, worker)
        self.event(self.run.worker_exited, worker, ending)

    def ring(self) -> None:
        timers, self.later[:] = list(self.later), []
        for timer in timers:
            timer()


def test_whatever_cannot_be_written_at_first_the_job_ends_as_if_it_could(tmp_path: Path):
    failed = set()
    for failing in range(1, 1000):
        disk = Disk(failing)
        story = Persistent(tmp_path / str(failing), batches=6, workers=2, policy=POLICY)
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in ("move", "start_hook", "add_worker", "end_worker", "charge_death"):
                disk.around(story.ledger, name, monkeypatch)
            disk.around(crew, "create_page", monkeypatch)
            disk.around(crew, "remove_empty_page", monkeypatch)
            disk.around(dispatch, "write_lease", monkeypatch)
            disk.around(segments.States, "open_ranges", monkeypatch)
            story.tell()

        (job,) = story.ended
        (death,) = story.ledger.deaths(JOB)
        assert (JobStatus.SUCCEEDED, 6) == (job.status, job.final_counts and job.final_counts.succeeded), (
            disk.has_failed
        )
        assert 1 == death.deaths, disk.has_failed
        assert isinstance(story.ledger, MemoryLedger)
        if disk.has_failed is None:
            break
        failed.add(disk.has_failed)
    assert {"move", "start_hook", "add_worker", "end_worker", "charge_death", "create_page", "write_lease"} < failed
