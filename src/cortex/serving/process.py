"""What is known of the replicas of an API, and of the processes that they consist of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from cortex.domain.frame import Frame
from cortex.engines.engine import Connection
from cortex.serving.calls import Incoming
from cortex.serving.rollout import ReplicaState


class Phase(Enum):
    """How far a process is."""

    PENDING = auto()  # ordered
    INITIALIZING = auto()  # it runs
    READY = auto()  # it has a live predictor


@dataclass(slots=True, eq=False, kw_only=True)
class Process:
    """One process of a replica."""

    name: str
    threads: int
    ordered_at_ns: int
    phase: Phase = Phase.PENDING
    connection: Connection | None = None
    ready_at_ns: int | None = None
    error: str | None = None  # why its predictor could not be constructed
    is_ending: bool = False  # it was told to
    is_condemned: bool = False  # predict took longer in it than a request may take

    @property
    def is_serving(self) -> bool:
        """True of one that can be given requests."""
        return self.connection is not None and self.phase is Phase.READY and not self.is_ending


@dataclass(slots=True, eq=False, kw_only=True)
class Replica:
    """Processes that are counted together."""

    name: str
    is_updated: bool
    processes: dict[str, Process] = field(default_factory=dict)
    is_draining: bool = False
    is_ending: bool = False
    was_ready: bool = False

    @property
    def stays(self) -> bool:
        """True of one that is not to be replaced or to end."""
        return self.is_updated and not self.is_draining and not self.is_ending

    @property
    def is_ready(self) -> bool:
        """True as long as requests can be given to it."""
        return any(process.is_serving for process in self.processes.values())

    @property
    def state(self) -> ReplicaState:
        """How far it is, for the plan."""
        if self.is_draining:
            return ReplicaState.DRAINING
        return ReplicaState.READY if self.is_ready else ReplicaState.STARTING

    @property
    def phase(self) -> Phase:
        """How far the first of its processes is."""
        if self.is_ready:
            return Phase.READY
        phases = [process.phase for process in self.processes.values()]
        return Phase.PENDING if all(phase is Phase.PENDING for phase in phases) else Phase.INITIALIZING


def request_frame(number: int, incoming: Incoming, names: Iterable[str]) -> tuple[Frame, bytes | None]:
    """Make the frame of a request, with what of it the predictor names."""
    frame: dict[str, Any] = {"type": "request", "id": number, "content_type": incoming.content_type}
    if "query_params" in names:
        frame["query"] = incoming.query.decode("latin-1")
    if "headers" in names:
        frame["headers"] = [[key.decode("latin-1"), value.decode("latin-1")] for key, value in incoming.headers]
    return frame, incoming.body if "payload" in names else None


def giver(connection: Connection, names: tuple[str, ...]) -> Callable[[int, Incoming], None]:
    """Give what sends a request to a process whose predictor names this of it."""

    def give(number: int, incoming: Incoming) -> None:
        connection.send(*request_frame(number, incoming, names))

    return give


def read_headers(told: Sequence[Sequence[str]]) -> list[tuple[bytes, bytes]]:
    """Read the headers that a process has answered with."""
    return [(key.encode("latin-1"), value.encode("latin-1")) for key, value in told]
