"""What the processes of a replica are started with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex.domain.layout import JobFolder
from cortex.engines.engine import Program, WorkerOrder
from cortex.predictor.models import LocalModel
from cortex.storage.files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSetup:
    """What every process of the replicas of a version is started with."""

    program: Program
    config: Mapping[str, Any]
    models: Sequence[LocalModel]
    threads_per_process: int

    def write(self, folder: JobFolder) -> None:
        """Leave in the version's folder what may be large: each process reads it there. Raises OSError."""
        setup = {
            "config": self.config,
            "job_spec": None,
            "threads_per_process": self.threads_per_process,
            "predictor_type": self.program.predictor_type,
            "models": [model.write() for model in self.models],
        }
        folder.workers.mkdir(parents=True, exist_ok=True)
        write_whole(folder.setup, json.dumps(setup))

    def order(self, worker: str, owner: str, folder: JobFolder, log: Path, *, comes_first: bool) -> WorkerOrder:
        """Make the order for one process; `owner` is who its place on the machine is counted for."""
        return WorkerOrder(
            worker=worker,
            job_id=owner,
            folder=folder.root,
            log=log,
            program=self.program,
            serves=True,
            comes_first=comes_first,
        )
