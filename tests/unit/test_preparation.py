"""What a version needs is made ready together, and what its processes are started with follows from it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.domain.errors import CortexError, EnvironmentFailed, ModelFailed
from cortex.engines.engine import Needs
from cortex.operator.machine import Machine
from cortex.operator.models import Models
from cortex.operator.preparation import Environments, Prepared
from cortex.predictor.models import ONLY_MODEL, LocalModel
from cortex.storage.ledger import Version
from samples import JOB

URL = "s3://bucket/model.onnx"
PREDICTOR = {
    "type": "onnx",
    "path": "predictor.py",
    "python_path": None,
    "config": {"a": 1},
    "env": {"NAME": "value"},
    "model_path": URL,
    "models": None,
    "signature_key": None,
    "processes_per_replica": 3,
    "threads_per_process": 4,
}


class Builder:
    """Installs requirements when it is told to, or never."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Path] | None = None
        self.status = "ready"

    def key(self, project: Path, requirements: Path, *, wants_gpu: bool) -> str:
        return "key"

    def state(self, key: str) -> Any:
        return SimpleNamespace(status=self.status, message="of the environment")

    async def ensure(self, project: Path, requirements: Path, *, wants_gpu: bool, log: Callable[[str], None]) -> Path:
        self.outcome = asyncio.get_running_loop().create_future()
        return await self.outcome


class Source:
    """Has models, or says why not."""

    def __init__(self) -> None:
        self.failure: ModelFailed | None = None
        self.status = "pending"

    def state(self, predictor_type: str, url: str) -> Any:
        return SimpleNamespace(status=self.status, message="of the model")

    async def fetch(self, predictor_type: str, url: str, log: Callable[[str], None]) -> Path:
        log(f"fetching model {url}")
        if self.failure:
            raise self.failure
        return Path("/models") / predictor_type / url.rpartition("/")[2]


class World:
    """A preparation, and what it was told to do."""

    def __init__(self, root: Path) -> None:
        self.builder, self.source = Builder(), Source()
        self.log: list[str] = []
        self.outcomes: list[Prepared | CortexError] = []
        self.project = root / "projects" / "p"
        self.project.mkdir(parents=True)
        self.preparation = Environments(
            builder=self.builder,
            models=Models(source=self.source),
            own_python=Path("/own/bin/python"),
            machine=Machine(cpu_cores=8, mem_bytes=2**34, gpus=0),
            projects=root / "projects",
            inherited={"PATH": "/bin", "CORTEX_API_KEY": "secret"},
            operator_endpoint="http://operator",
        )

    def version(self, **changes: Any) -> Version:
        return Version(
            api_id="v1",
            api_name="iris",
            kind="RealtimeAPI",
            endpoint="/iris",
            spec={"predictor": {**PREDICTOR, **changes}, "compute": {"cpu": "1", "mem": "100Mi", "gpu": 0}},
            project_id="p",
            deployed_at_ns=1,
        )

    def prepare(self, version: Version) -> None:
        self.preparation.prepare(version, self.log.append, self.outcomes.append)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def a_moment() -> None:
    """Let everything happen that waits for nothing else."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_what_needs_nothing_is_ready_at_once(world: World) -> None:
    world.prepare(world.version(type="python", model_path=None))
    world.prepare(replace(world.version(), spec={"apis": []}))

    assert [Prepared(python=Path("/own/bin/python"))] * 2 == world.outcomes


def test_environment_and_models_are_made_ready_together(world: World) -> None:
    (world.project / "requirements.txt").touch()

    async def story() -> list[str]:
        world.prepare(world.version())
        await a_moment()
        before = list(world.log) if not world.outcomes else []
        assert world.preparation.is_at_work  # the model is there, and must not be pruned
        assert world.builder.outcome is not None
        world.builder.outcome.set_result(Path("/env/bin/python"))
        await a_moment()
        return before

    assert [f"fetching model {URL}"] == asyncio.run(story())
    assert not world.preparation.is_at_work
    model = LocalModel(name=ONLY_MODEL, path=Path("/models/onnx/model.onnx"))
    assert [Prepared(python=Path("/env/bin/python"), models=(model,))] == world.outcomes


def test_a_model_that_cannot_be_had_is_told_without_waiting_for_the_environment(world: World) -> None:
    (world.project / "requirements.txt").touch()
    world.source.failure = ModelFailed("no such bucket")

    async def story() -> bool:
        world.prepare(world.version())
        await a_moment()
        return world.builder.outcome is not None and world.builder.outcome.cancelled()

    assert asyncio.run(story())
    assert [world.source.failure] == world.outcomes
    assert {"status": "failed", "message": "no such bucket"} == world.preparation.state(world.version())


def test_an_environment_that_cannot_be_built_is_told_once(world: World) -> None:
    (world.project / "requirements.txt").touch()
    failure = EnvironmentFailed("no such package")

    async def story() -> None:
        world.prepare(world.version())
        await a_moment()
        assert world.builder.outcome is not None
        world.builder.outcome.set_exception(failure)
        await a_moment()

    asyncio.run(story())
    assert [failure] == world.outcomes


def test_a_failure_of_our_own_is_told_too_and_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    (world.project / "requirements.txt").touch()

    async def story() -> None:
        world.prepare(world.version())
        await a_moment()
        assert world.builder.outcome is not None
        world.builder.outcome.set_exception(ValueError("a mistake"))
        await a_moment()

    asyncio.run(story())
    (outcome,) = world.outcomes
    assert "its log says more" in str(outcome)
    assert "a mistake" in caplog.text


@pytest.mark.parametrize(
    ("environment", "model", "shown"),
    [
        ("building", "failed", ("building", "of the environment")),
        ("failed", "building", ("failed", "of the environment")),
        ("ready", "building", ("building", "of the model")),
        ("ready", "failed", ("failed", "of the model")),
        ("ready", "pending", ("ready", "of the environment")),
        (None, "building", ("building", "of the model")),
        (None, "ready", ("ready", "of the model")),
        (None, "pending", ("none", "")),
    ],
)
def test_the_environment_is_shown_first_and_its_models_once_it_is_ready(
    world: World, environment: str | None, model: str, shown: tuple[str, str]
) -> None:
    if environment is not None:
        (world.project / "requirements.txt").touch()
        world.builder.status = environment
    world.source.status = model

    assert shown == tuple(world.preparation.state(world.version()).values())


def test_models_have_their_names_and_signatures(world: World) -> None:
    models = [
        {"name": "a", "model_path": "s3://bucket/a", "signature_key": "one"},
        {"name": "b", "model_path": "s3://bucket/b", "signature_key": None},
    ]

    async def story() -> None:
        world.prepare(world.version(type="tensorflow", model_path=None, models=models))
        await a_moment()

    asyncio.run(story())
    (prepared,) = world.outcomes
    assert isinstance(prepared, Prepared)
    assert (
        LocalModel(name="a", path=Path("/models/tensorflow/a"), signature_key="one"),
        LocalModel(name="b", path=Path("/models/tensorflow/b")),
    ) == prepared.models


def test_each_process_of_a_replica_needs_its_share(world: World) -> None:
    model = LocalModel(name=ONLY_MODEL, path=Path("/m"))

    setup = world.preparation.replica_setup(world.version(), Prepared(python=Path("/env/bin/python"), models=(model,)))

    assert Needs(millicores=333, mem_bytes=34952533) == setup.program.needs
    assert ("onnx", 4, (model,), {"a": 1}) == (
        setup.program.predictor_type,
        setup.threads_per_process,
        tuple(setup.models),
        setup.config,
    )
    assert {
        "NAME": "value",
        "CORTEX_OPERATOR_ENDPOINT": "http://operator",
        "CORTEX_API_NAME": "iris",
    } == setup.program.env


def test_workers_inherit_no_key_and_send_nothing_of_a_library_to_its_maker(world: World) -> None:
    prepared = Prepared(python=Path("/env/bin/python"))

    inherited = [
        world.preparation.setup(world.version(), prepared, JOB).program.inherited,
        world.preparation.replica_setup(world.version(), prepared).program.inherited,
    ]

    assert [{"PATH": "/env/bin:/bin", "ORT_DISABLE_TELEMETRY": "1"}] * 2 == inherited
