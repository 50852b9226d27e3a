"""What the processes of a replica are started with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cortex.domain.layout import JobFolder
from cortex.engines.engine import Needs, WorkerOrder
from cortex.predictor.models import LocalModel
from cortex.storage.files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSetup:
    """What every process of the replicas of a version is started with."""

    python: Path
    project: Path
    predictor_path: str
    python_path: str | None
    predictor_type: str  # python, onnx or tensorflow
    config: Mapping[str, Any]
    models: Sequence[LocalModel]
    threads_per_process: int
    inherited: Mapping[str, str]  # variables that the project's .env may replace
    env: Mapping[str, str]  # variables that it may not
    needs: Needs = field(default_factory=Needs)  # of one process

    def write(self, folder: JobFolder) -> None:
        """Leave in the version's folder what may be large: each process reads it there. Raises OSError."""
        setup = {
            "config": self.config,
            "job_spec": None,
            "threads_per_process": self.threads_per_process,
            "predictor_type": self.predictor_type,
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
            python=self.python,
            project=self.project,
            predictor_path=self.predictor_path,
            predictor_type=self.predictor_type,
            python_path=self.python_path,
            inherited=self.inherited,
            env=self.env,
            needs=self.needs,
            serves=True,
            comes_first=comes_first,
        )
