"""What every API that is served works with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cortex.domain.errors import CortexError
from cortex.domain.timing import Background, Timer
from cortex.engines.engine import Engine
from cortex.serving.replica_order import ReplicaSetup
from cortex.storage.ledger import Version

SetUp = Callable[[Version, Callable[[str], None], Callable[[ReplicaSetup | CortexError], None]], None]
"""Makes environment and models of a version ready; tells a log how it goes, and the outcome, perhaps at once."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """See the module. The engine is there before the first API is."""

    engine: Engine = field(init=False)
    now_ns: Callable[[], int]  # a clock that never goes back
    call_later: Timer
    background: Background
    append_line: Callable[[Path, str], None]  # to a log
    set_up: SetUp
