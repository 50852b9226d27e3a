"""What the engine of other machines knows of one Worker there."""

from dataclasses import dataclass, field

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.engine import Connection, Needs, WorkerOrder
from cortex.engines.station_side import StationLink


@dataclass(slots=True)
class KnownStation:
    """A Worker and its station."""

    order: WorkerOrder | None = None  # None for one that an earlier operator ordered
    needs: Needs = field(default_factory=Needs)
    node: str | None = None  # where it was placed
    link: StationLink | None = None
    supervisor: Connection | None = None
    supervisor_name: str = ""
    was_heard: bool = False  # its station has been connected, here or to an earlier operator
    is_supervised: bool = False  # its supervisor has introduced itself, here or there
    pid: int | None = None  # of the Worker, there
    is_drained: bool = False
    stop: Frame | None = None  # what its supervisor is to be told when it is back
    ending: Exit | None = None  # how it has ended, once its last words are here
