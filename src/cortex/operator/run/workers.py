"""What the operator knows of the Workers of a Job."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from cortex.domain.ending import Exit
from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.engines.engine import STALLED_AFTER_NS, Connection, Program, WorkerOrder
from cortex.predictor.models import LocalModel
from cortex.storage.files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSetup:
    """What every Worker of a Job is started with."""

    program: Program
    config: Mapping[str, Any]
    job_spec: Mapping[str, Any]
    policy: Mapping[str, Any]  # what a Worker does where predict raises: `attempts`, `no_retry`, `isolate`
    names_batches: str  # the Job whose id the ids of the Batches are made from
    places: int  # how many of them the machine has room for
    models: Sequence[LocalModel] = ()

    def write(self, folder: JobFolder) -> None:
        """Leave in the Job's folder what may be large: each Worker reads it there, perhaps at this moment."""
        setup = {
            "config": self.config,
            "job_spec": self.job_spec,
            "policy": self.policy,
            "names_batches": self.names_batches,
            "predictor_type": self.program.predictor_type,
            "models": [model.write() for model in self.models],
        }
        text = json.dumps(setup)
        with suppress(OSError, UnicodeDecodeError):
            if folder.setup.read_text(encoding="utf-8") == text:  # an earlier operator has written it
                return
        write_whole(folder.setup, text)

    def order(self, worker: str, job: Job, folder: JobFolder) -> WorkerOrder:
        """Make the order for one Worker."""
        return WorkerOrder(worker=worker, job_id=job.id, folder=folder.root, log=folder.log, program=self.program)


class Phase(Enum):
    """How far a Worker is."""

    PENDING = auto()  # ordered
    INITIALIZING = auto()  # its process runs
    READY = auto()  # it has a live predictor
    RELEASED = auto()  # it was told to end


@dataclass(slots=True)
class WorkerView:
    """What the operator knows of one Worker."""

    phase: Phase = Phase.PENDING
    connection: Connection | None = None
    is_drained: bool = False
    ordered_at_ns: int = 0
    pid: int | None = None  # known once the ledger has it; no Lease before
    node: str | None = None  # where it runs, if that is elsewhere
    was_found: bool = False  # an earlier operator ordered it, and may have told it to end

    @property
    def is_waiting(self) -> bool:
        """True of a Worker that can be told what to do."""
        return self.phase is Phase.READY and self.connection is not None and self.pid is not None

    def was_let_go(self, ending: Exit, suspect: int | None) -> bool:
        """Tell whether it has ended as it does when it is told to, by an earlier operator if not by this one."""
        return self.was_found and ending.status == 0 and suspect is None

    @property
    def has_said_all(self) -> bool:
        """True of a Worker that ends by itself and of which nothing more will come."""
        return self.phase is Phase.RELEASED and self.is_drained


@dataclass(frozen=True, slots=True, kw_only=True)
class RollCall:
    """How far the Workers of a Job are."""

    counts: Mapping[str, int]  # in the words of the HTTP API
    shortage: str | None  # how many wait for a place on the machine, and why; None when none does


def count_waiting(since_ns: Mapping[int, int], *, now_ns: int) -> tuple[int, int]:
    """Count those that wait for a place, and those that have waited so long that they are called stalled.

    They are given by since when how many wait: a Job may ask for thousands of millions.
    """
    stalled = sum(count for since, count in since_ns.items() if now_ns - since >= STALLED_AFTER_NS)
    return sum(since_ns.values()) - stalled, stalled
