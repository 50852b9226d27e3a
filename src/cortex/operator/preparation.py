"""What a version needs before its Workers can start: an interpreter with its requirements, and their variables."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from cortex.configuration import Compute
from cortex.domain.errors import EnvironmentFailed
from cortex.domain.job import Job
from cortex.operator.keys import FILE_VARIABLE, KEY_VARIABLE, Keys
from cortex.operator.machine import Machine, needs_of
from cortex.operator.run.workers import WorkerSetup
from cortex.operator.status import job_spec
from cortex.predictor import merge_config
from cortex.storage.ledger import Version

_NOT_INHERITED: Final = (
    "PYTHONDONTWRITEBYTECODE",  # a Worker that compiles the user's imports again at every start is slow
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    KEY_VARIABLE,  # the operator's own: a Worker has a token of its Job at most
    FILE_VARIABLE,
)


class EnvironmentState(Protocol):
    """How far an environment is."""

    @property
    def status(self) -> str:
        """One of pending, building, ready, failed."""

    @property
    def message(self) -> str:
        """What people read of it."""


class EnvironmentBuilder(Protocol):
    """Who installs requirements."""

    def key(self, project: Path, requirements: Path, *, wants_gpu: bool) -> str:
        """Name the environment that these requirements give."""

    def state(self, key: str) -> EnvironmentState:
        """Say how far an environment is."""

    async def ensure(self, project: Path, requirements: Path, *, wants_gpu: bool, log: Callable[[str], None]) -> Path:
        """Give the interpreter of the environment, built if need be. Raises EnvironmentFailed."""


class Preparation(Protocol):
    """Who makes the environment of a version ready."""

    def prepare(
        self,
        version: Version,
        log: Callable[[str], None],
        done: Callable[[Path | EnvironmentFailed], None],
    ) -> None:
        """Have it ready; tell the log how it goes and `done`, perhaps at once, its interpreter or why there is none."""

    def state(self, version: Version) -> Mapping[str, str]:
        """Say how far the environment of a version is: `status` and `message`."""

    def setup(self, version: Version, python: Path, job: Job) -> WorkerSetup:
        """Give what the Workers of a Job are started with."""


@dataclass(slots=True, kw_only=True)
class Environments:
    """Makes environments ready while the operator goes on. Versions without requirements run on `own_python`."""

    builder: EnvironmentBuilder
    own_python: Path
    machine: Machine
    projects: Path
    inherited: Mapping[str, str]
    operator_endpoint: str = ""
    keys: Keys | None = None  # where the operator asks for them
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def project(self, version: Version) -> Path:
        """Give the folder of the version's project."""
        return self.projects / version.project_id

    def prepare(
        self, version: Version, log: Callable[[str], None], done: Callable[[Path | EnvironmentFailed], None]
    ) -> None:
        """See operator.jobs.Preparation."""
        requirements = self._requirements(version)
        if requirements is None:
            done(self.own_python)
        else:
            self._later(self._build(version, requirements, log, done))

    def key(self, version: Version) -> str | None:
        """Name the environment of a version; None where it runs on the operator's own."""
        requirements = self._requirements(version)
        if requirements is None:
            return None
        return self.builder.key(self.project(version), requirements, wants_gpu=_wants_gpu(version))

    def state(self, version: Version) -> Mapping[str, str]:
        """Say how far the environment of a version is: `status` and `message`."""
        key = self.key(version)
        if key is None:
            return {"status": "none", "message": ""}
        state = self.builder.state(key)
        return {"status": state.status, "message": state.message}

    def setup(self, version: Version, python: Path, job: Job) -> WorkerSetup:
        """See operator.jobs.Preparation."""
        predictor, compute = version.spec["predictor"], _read_compute(tuple(version.spec["compute"].items()))
        inherited = {name: value for name, value in self.inherited.items() if name not in _NOT_INHERITED}
        return WorkerSetup(
            python=python,
            project=self.project(version),
            predictor_path=predictor["path"],
            python_path=predictor["python_path"],
            config=merge_config(predictor["config"], job.config or {}),
            job_spec=job_spec(job),
            policy={
                "attempts": job.policy.retries.attempts,
                "no_retry": list(job.policy.retries.no_retry),
                "isolate": job.policy.isolates,
            },
            names_batches=job.names_batches,
            inherited={**inherited, "PATH": f"{python.parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"},
            env={
                **predictor["env"],
                **({KEY_VARIABLE: self.keys.token(job.id)} if self.keys else {}),
                "CORTEX_OPERATOR_ENDPOINT": self.operator_endpoint,
                "CORTEX_API_NAME": job.api_name,
                "CORTEX_JOB_ID": job.id,
            },
            places=self.machine.places(compute),
            needs=needs_of(compute),
        )

    def cancel(self) -> None:
        """Give up what is being built."""
        for task in self._tasks:
            task.cancel()

    def _requirements(self, version: Version) -> Path | None:
        path = self.project(version) / "requirements.txt"
        return path if path.is_file() else None

    async def _build(
        self,
        version: Version,
        requirements: Path,
        log: Callable[[str], None],
        done: Callable[[Path | EnvironmentFailed], None],
    ) -> None:
        project, wants_gpu = self.project(version), _wants_gpu(version)
        try:
            python = await self.builder.ensure(project, requirements, wants_gpu=wants_gpu, log=log)
        except EnvironmentFailed as error:
            done(error)
        else:
            done(python)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@lru_cache(maxsize=64)
def _read_compute(section: tuple[tuple[str, Any], ...]) -> Compute:
    """Read the `compute` of a version, which small Jobs come with again and again."""
    return Compute.model_validate(dict(section))


def _wants_gpu(version: Version) -> bool:
    return bool(version.spec["compute"]["gpu"] > 0)
