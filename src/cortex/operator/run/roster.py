"""How the Workers of one Job stand, counted as they change: nobody counts thousands of them at every event."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from cortex.operator.run.workers import Phase, WorkerView


class _Standing(NamedTuple):
    """What of a Worker is counted."""

    phase: Phase
    is_waiting: bool
    is_ending: bool
    has_said_all: bool


@dataclass(slots=True)
class Roster:
    """The Workers that are not known to be gone. Whoever changes a view says so at once, with `changed`."""

    views: dict[str, WorkerView] = field(default_factory=dict)
    pending: dict[str, None] = field(default_factory=dict)  # ordered; all of these in the order in which they came
    starting: dict[str, None] = field(default_factory=dict)  # not told to end, and cannot be told what to do yet
    waiting: dict[str, None] = field(default_factory=dict)  # can be told what to do
    phases: Counter[Phase] = field(default_factory=Counter)
    ending: int = 0  # of those that were told to end, the ones that had a process
    have_said_all: int = 0
    _standings: dict[str, _Standing] = field(default_factory=dict)

    def add(self, worker: str, view: WorkerView) -> None:
        """Count one more."""
        self.views[worker] = view
        self.changed(worker)

    def remove(self, worker: str) -> WorkerView:
        """Count one less, and give what was known of it."""
        self._leave(worker)
        return self.views.pop(worker)

    def changed(self, worker: str) -> None:
        """Take notice of how a Worker stands now."""
        view = self.views[worker]
        standing = _Standing(
            view.phase,
            view.is_waiting,
            is_ending=view.phase is Phase.RELEASED and view.pid is not None,
            has_said_all=view.has_said_all,
        )
        if standing != self._standings.get(worker):
            self._leave(worker)
            self._enter(worker, standing)

    @property
    def unreleased(self) -> int:
        """How many were not told to end."""
        return len(self.starting) + len(self.waiting)

    def _enter(self, worker: str, standing: _Standing) -> None:
        self._standings[worker] = standing
        self.phases[standing.phase] += 1
        self.ending += standing.is_ending
        self.have_said_all += standing.has_said_all
        if standing.phase is Phase.PENDING:
            self.pending[worker] = None
        if standing.is_waiting:
            self.waiting[worker] = None
        elif standing.phase is not Phase.RELEASED:
            self.starting[worker] = None

    def _leave(self, worker: str) -> None:
        standing = self._standings.pop(worker, None)
        if standing is None:
            return
        self.phases[standing.phase] -= 1
        self.ending -= standing.is_ending
        self.have_said_all -= standing.has_said_all
        for group in (self.pending, self.starting, self.waiting):
            group.pop(worker, None)
