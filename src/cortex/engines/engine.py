"""The contract of an engine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame

STALLED_AFTER_NS: Final = 10 * 60 * 10**9
"""Who has waited so long for a place is called stalled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a Worker needs of a machine for itself."""

    millicores: int = 0  # reserved, not a limit
    mem_bytes: int = 0  # reserved, and a limit; 0: neither
    gpus: int = 0
    node_groups: tuple[str, ...] = ()  # it runs on a node of one of these; of any where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What the Workers of one Job, or the processes of an API's replicas, all run."""

    python: Path  # the interpreter
    project: Path
    predictor_path: str
    python_path: str | None
    inherited: Mapping[str, str]  # variables that the project's .env may replace
    env: Mapping[str, str]  # variables that it may not
    needs: Needs = field(default_factory=Needs)  # of each of them
    predictor_type: str = "python"  # or onnx, or tensorflow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOrder:
    """All that is needed to start one Worker."""

    worker: str
    job_id: str
    folder: Path  # of the Job
    log: Path
    program: Program
    serves: bool = False  # it is a process of a replica, which answers requests, and not of a Job
    comes_first: bool = False  # its API is out of service without it


class Elsewhere(Protocol):
    """What is different about a Worker that runs on another machine: it does not see the operator's files.

    Its station gives it a page of its own, and what it writes comes to the operator with the end of its Lease.
    """

    @property
    def most_lease_bytes(self) -> int:
        """How much payload one Lease may have; one of a single Batch may have more."""

    def settle(self, token: int, limit: int, then: Callable[[], None]) -> None:
        """Have the Worker see the new limit of its Lease.

        `then` is called when its page, as the operator reads it, shows whatever it has begun in spite of that: never,
        if it is lost before.
        """


class Connection(Protocol):
    """A peer on the channel: a Worker, or a supervisor."""

    @property
    def elsewhere(self) -> Elsewhere | None:
        """What is different about it, if it is on another machine."""

    def send(self, frame: Frame, data: bytes | None = None) -> None:
        """Send it a frame, with what follows it; lost if it is gone."""


class EngineListener(Protocol):
    """Who hears of the life of Workers, in this order; of one that never ran only the last two."""

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        """Its process runs, on this machine or on that node. Said again when its supervisor comes back."""

    def worker_drained(self, worker: str) -> None:
        """All that it printed can be read in the Job's log."""

    def worker_exited(self, worker: str, ending: Exit) -> None:
        """Its process is gone: nothing that it did can happen any more."""


class Engine(Protocol):
    """Starts and stops Workers, and knows how each one died."""

    def start(self, order: WorkerOrder) -> None:
        """Start a Worker as soon as there is a place for it beside all others, of whatever Job.

        That it runs, or could not be started, is told to the listener. The next place is for the Job that has the
        fewest, then for the oldest order, but for those that come first.
        """

    def warm_up(self, order: WorkerOrder, count: int) -> None:
        """Make ready what so many Workers like this one, which may soon be ordered, can be started from: or nothing.

        It is kept as long as what is left of Workers that have ended, and runs nothing of a Job.
        """

    def has_place(self, worker: str) -> bool:
        """Tell whether a Worker that was ordered has been given its place; if not, it waits for one."""

    def may_keep(self, job_id: str, *, least: int) -> int | None:
        """Tell how many of its places an elastic Job may keep: others wait for the rest of them. None: all.

        From now on it is known that the Job can do without the Workers that it has above `least`: those get a place
        after all others. Never less than `least` is told, unless it has no more; and what is given back goes to those
        it is asked back for. An engine that has room for more whenever it is ordered asks for nothing.
        """

    def shortage(self, needs: Needs) -> str:
        """Say what a Worker that needs this waits for, to follow the words "workers wait for compute: "."""

    def stop(self, worker: str, *, at_once: bool) -> None:
        """See to it that a Worker ends within seconds: by itself, or interrupted (`at_once`), in the end killed.

        One that waits for a place is withdrawn. A place is free again when the Worker's process is gone.
        """

    def may_return(self) -> bool:
        """Tell whether Workers of an earlier operator may still come back: what has started them lives."""

    def end_lost(self, worker: str, *, pid: int, process_started_at: float) -> None:
        """Make sure that a Worker of an earlier operator, which has not come back, is gone; the listener is told."""

    def idle(self) -> None:
        """Say that no Worker is needed now: what is kept for the next ones may end after a while."""

    def end(self) -> None:
        """End all Workers and whatever runs them. When this returns they are gone."""
