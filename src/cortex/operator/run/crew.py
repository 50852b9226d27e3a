"""The Workers of one Job: ordered, found again, let go, and counted."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.engines.engine import Engine
from cortex.operator.run.roster import Roster
from cortex.operator.run.workers import Phase, RollCall, WorkerSetup, WorkerView, count_waiting
from cortex.storage.pages import create_page, remove_empty_page


@dataclass(slots=True, kw_only=True)
class Crew:
    """See the module."""

    job: Job  # as it was when the run of it began
    folder: JobFolder
    engine: Engine
    setup: WorkerSetup | None = None  # set when the environment is ready
    roster: Roster = field(default_factory=Roster)
    succeeded: int = 0
    failed: int = 0
    _short_since_ns: int = 0  # since when Workers could have been ordered, had the machine been larger
    _is_complete: bool = False  # no Worker is wanted any more

    def equip(self, setup: WorkerSetup, *, now_ns: int) -> None:
        """Make it possible to order Workers."""
        setup.write(self.folder)
        self.setup, self._short_since_ns = setup, now_ns

    @property
    def views(self) -> dict[str, WorkerView]:
        """The Workers that are not known to be gone."""
        return self.roster.views

    @property
    def wanted(self) -> int:
        """How many Workers there are to be at once: no more than the machine could ever hold."""
        return min(self.job.workers, self.setup.places) if self.setup else self.job.workers

    def order(self, count: int, *, now_ns: int) -> None:
        """Order Workers of the engine, which starts each as soon as there is a place for it."""
        if self.setup is None:
            return
        for _ in range(count):
            worker = f"{self.job.id}-{os.urandom(4).hex()}"
            create_page(self.folder, worker)
            self.roster.add(worker, WorkerView(ordered_at_ns=now_ns))
            self.engine.start(self.setup.order(worker, self.job, self.folder))

    @property
    def at_work(self) -> int:
        """How many Workers have a process and were not told to end."""
        return self.roster.phases[Phase.INITIALIZING] + self.roster.phases[Phase.READY]

    def release(self, workers: Iterable[str], *, at_once: bool, message: str = "") -> None:
        """Let Workers end, and want no others."""
        self._is_complete = True
        self.let_go(workers, at_once=at_once, message=message)

    def let_go(self, workers: Iterable[str], *, at_once: bool, message: str = "") -> None:
        """Let Workers end: by themselves, or at once if that is said or they have not even begun."""
        for worker in workers:
            view = self.views[worker]
            if view.phase is Phase.RELEASED:
                continue
            can_end_by_itself = view.phase is Phase.READY and not at_once
            view.phase = Phase.RELEASED
            self.roster.changed(worker)
            if can_end_by_itself and view.connection is not None:
                view.connection.send({"type": "finish", "message": message})
            self.engine.stop(worker, at_once=not can_end_by_itself)

    def reopen(self, *, now_ns: int) -> None:
        """Let Workers be wanted again."""
        self._is_complete, self._short_since_ns = False, now_ns

    def lose(self, worker: str) -> WorkerView:
        """Count a Worker that is gone, unless it was let go before it had a process, and give what was known of it."""
        view = self.roster.remove(worker)
        remove_empty_page(self.folder, worker)  # most have one where many have waited and few got a place
        if view.phase is not Phase.RELEASED:
            self.failed += 1
        elif view.pid is not None:
            self.succeeded += 1
        return view

    def roll_call(self, *, now_ns: int) -> RollCall:
        """Tell how far the Workers are. Its cost is that of those that wait for a place, and not of all."""
        roster = self.roster
        waiting = [worker for worker in roster.pending if not self.engine.has_place(worker)]
        not_ordered = self._not_ordered
        missed = waiting
        if self.job.workers_min is not None:  # those above are welcome, but nobody waits for them
            placed = roster.unreleased - len(waiting)
            not_ordered = min(not_ordered, max(0, self._due - placed))
            missed = waiting[::-1][: max(0, self._due - placed - not_ordered)]
        since_ns = Counter(self.views[worker].ordered_at_ns for worker in missed)
        since_ns[self._short_since_ns] += not_ordered
        pending, stalled = count_waiting(since_ns, now_ns=now_ns)
        preparing = max(0, self._due - len(self.views)) if self.setup is None else 0
        counts = {
            "pending": preparing + pending,
            "initializing": len(roster.pending) - len(waiting) + roster.phases[Phase.INITIALIZING],
            "running": roster.phases[Phase.READY],
            "succeeded": self.succeeded + roster.ending,
            "failed": self.failed,
            "stalled": stalled,
        }
        return RollCall(counts=counts, shortage=self._shortage(len(missed) + not_ordered))

    def _shortage(self, waiting: int) -> str | None:
        if self.setup is None or not waiting:
            return None
        verb = "waits" if waiting == 1 else "wait"
        shortage = self.engine.shortage(self.setup.program.needs)
        return f"{waiting} of {self._due} workers {verb} for compute: {shortage}"

    @property
    def _due(self) -> int:
        """How many Workers the Job counts on."""
        return self.job.workers_min or self.job.workers

    @property
    def _not_ordered(self) -> int:
        """Count those that wait although they have not been ordered: the machine can never hold so many."""
        return 0 if self.setup is None or self._is_complete else max(0, self._due - self.wanted)
