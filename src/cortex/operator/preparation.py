"""What a version needs before its Workers can start: an interpreter with its requirements, models, and variables."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from cortex.configuration import Compute
from cortex.domain.errors import CortexError
from cortex.domain.job import Job
from cortex.domain.preparation_state import PreparationState
from cortex.domain.worker_variables import worker_variables
from cortex.engines.engine import Needs, Program
from cortex.operator.keys import FILE_VARIABLE, KEY_VARIABLE, Keys
from cortex.operator.machine import Machine, needs_of, needs_of_process
from cortex.operator.models import Models, models_of
from cortex.operator.run.workers import WorkerSetup
from cortex.operator.status import job_spec
from cortex.predictor import merge_config
from cortex.predictor.models import LocalModel
from cortex.serving.replica_order import ReplicaSetup
from cortex.storage.ledger import Version

logger = logging.getLogger(__name__)

_NOT_INHERITED: Final = (
    "PYTHONDONTWRITEBYTECODE",  # a Worker that compiles the user's imports again at every start is slow
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    KEY_VARIABLE,  # the operator's own: a Worker has a token of its Job at most
    FILE_VARIABLE,
)


class EnvironmentBuilder(Protocol):
    """Who installs requirements."""

    def key(self, project: Path, requirements: Path, *, wants_gpu: bool) -> str:
        """Name the environment that these requirements give."""

    def state(self, key: str) -> PreparationState:
        """Say how far an environment is."""

    async def ensure(self, project: Path, requirements: Path, *, wants_gpu: bool, log: Callable[[str], None]) -> Path:
        """Give the interpreter of the environment, built if need be. Raises EnvironmentFailed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What the Workers of a version are started from, on this machine."""

    python: Path  # the interpreter
    models: tuple[LocalModel, ...] = ()


class Preparation(Protocol):
    """Who makes ready what a version needs."""

    def prepare(
        self,
        version: Version,
        log: Callable[[str], None],
        done: Callable[[Prepared | CortexError], None],
    ) -> None:
        """Have it ready; tell the log how it goes and `done`, perhaps at once, what is there or why it is not."""

    def state(self, version: Version) -> Mapping[str, str]:
        """Say how far the environment of a version is, with its models: `status` and `message`."""

    def setup(self, version: Version, prepared: Prepared, job: Job) -> WorkerSetup:
        """Give what the Workers of a Job are started with."""

    def replica_setup(self, version: Version, prepared: Prepared) -> ReplicaSetup:
        """Give what the processes of the replicas of a RealtimeAPI are started with."""


@dataclass(slots=True, kw_only=True)
class Environments:
    """Makes environments and models ready while the operator goes on.

    Versions without requirements run on `own_python`.
    """

    builder: EnvironmentBuilder
    models: Models
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
        self, version: Version, log: Callable[[str], None], done: Callable[[Prepared | CortexError], None]
    ) -> None:
        """See operator.jobs.Preparation."""
        requirements = self._requirements(version)
        if requirements is None and not models_of(version):
            done(Prepared(python=self.own_python))
        else:
            self._later(self._prepare(version, requirements, log, done))

    def key(self, version: Version) -> str | None:
        """Name the environment of a version; None where it runs on the operator's own."""
        requirements = self._requirements(version)
        if requirements is None:
            return None
        return self.builder.key(self.project(version), requirements, wants_gpu=_wants_gpu(version))

    def state(self, version: Version) -> Mapping[str, str]:
        """See operator.jobs.Preparation."""
        key = self.key(version)
        environment = self.builder.state(key) if key is not None else None
        models = self.models.state(version)
        if models is not None and (environment is None or environment.status == "ready"):
            return {"status": models.status, "message": models.message}
        if environment is None:
            return {"status": "none", "message": ""}
        return {"status": environment.status, "message": environment.message}

    def setup(self, version: Version, prepared: Prepared, job: Job) -> WorkerSetup:
        """See operator.jobs.Preparation."""
        predictor, compute = version.spec["predictor"], _compute_of(version)
        needs = needs_of(compute, _node_groups_of(version))
        token = self.keys.token(job.id) if self.keys else None
        return WorkerSetup(
            program=self._program(version, prepared, token, needs, CORTEX_JOB_ID=job.id),
            config=merge_config(predictor["config"], job.config or {}),
            job_spec=job_spec(job),
            policy={
                "attempts": job.policy.retries.attempts,
                "no_retry": list(job.policy.retries.no_retry),
                "isolate": job.policy.isolates,
            },
            names_batches=job.names_batches,
            places=self.machine.places(compute),
            models=prepared.models,
        )

    def replica_setup(self, version: Version, prepared: Prepared) -> ReplicaSetup:
        """See operator.jobs.Preparation."""
        predictor = version.spec["predictor"]
        processes = predictor["processes_per_replica"]
        needs = needs_of_process(_compute_of(version), processes, _node_groups_of(version))
        token = self.keys.api_token(version.api_name) if self.keys else None
        return ReplicaSetup(
            program=self._program(version, prepared, token, needs),
            config=predictor["config"],
            models=prepared.models,
            threads_per_process=predictor["threads_per_process"],
        )

    def _program(
        self, version: Version, prepared: Prepared, token: str | None, needs: Needs, **variables: str
    ) -> Program:
        """Give what Workers of a version run, with the token that they may ask the operator with, if it wants one."""
        predictor = version.spec["predictor"]
        return Program(
            python=prepared.python,
            project=self.project(version),
            predictor_path=predictor["path"],
            predictor_type=predictor["type"],
            python_path=predictor["python_path"],
            inherited=self._inherited(prepared.python),
            env={
                **predictor["env"],
                **({KEY_VARIABLE: token} if token else {}),
                "CORTEX_OPERATOR_ENDPOINT": self.operator_endpoint,
                "CORTEX_API_NAME": version.api_name,
                **variables,
            },
            needs=needs,
        )

    def _inherited(self, python: Path) -> dict[str, str]:
        inherited = {name: value for name, value in self.inherited.items() if name not in _NOT_INHERITED}
        return worker_variables(inherited, python)

    @property
    def is_at_work(self) -> bool:
        """True while anything is made ready: of its models, nothing but this knows yet that they are needed."""
        return bool(self._tasks)

    def cancel(self) -> None:
        """Give up what is being built."""
        for task in self._tasks:
            task.cancel()

    def _requirements(self, version: Version) -> Path | None:
        path = self.project(version) / "requirements.txt"
        return path if "predictor" in version.spec and path.is_file() else None  # a TrafficSplitter runs nothing

    async def _prepare(
        self,
        version: Version,
        requirements: Path | None,
        log: Callable[[str], None],
        done: Callable[[Prepared | CortexError], None],
    ) -> None:
        """Have environment and models ready, at the same time: either may take minutes."""
        interpreter = asyncio.ensure_future(self._interpreter(version, requirements, log))
        having = asyncio.ensure_future(self.models.have(version, self.project(version), log))
        try:
            python, models = await asyncio.gather(interpreter, having)
        except CortexError as error:
            done(error)
        except Exception:  # or whoever waits would never hear of it
            logger.exception("what %s needs could not be made ready", version.api_name)
            done(CortexError("the operator has failed to make ready what is needed; its log says more"))
        else:
            done(Prepared(python=python, models=models))
        finally:
            interpreter.cancel()
            having.cancel()

    async def _interpreter(self, version: Version, requirements: Path | None, log: Callable[[str], None]) -> Path:
        if requirements is None:
            return self.own_python
        return await self.builder.ensure(self.project(version), requirements, wants_gpu=_wants_gpu(version), log=log)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _compute_of(version: Version) -> Compute:
    return _read_compute(tuple(version.spec["compute"].items()))


def _node_groups_of(version: Version) -> Sequence[str]:
    return version.spec.get("node_groups") or ()  # one that was deployed by an earlier version of cortex has none


@lru_cache(maxsize=64)
def _read_compute(section: tuple[tuple[str, Any], ...]) -> Compute:
    """Read the `compute` of a version, which small Jobs come with again and again."""
    return Compute.model_validate(dict(section))


def _wants_gpu(version: Version) -> bool:
    return bool(version.spec["compute"]["gpu"] > 0)
