"""Have the environment of a project ready: build it once, share it with everyone who needs the same."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Literal

from uv import find_uv_bin

from cortex.domain.errors import EnvironmentFailed
from cortex.environments.build import build_environment
from cortex.environments.pip_settings import uv_variables
from cortex.environments.recipe import Recipe

BASE_SET = ("requests", "boto3", "numpy", "pillow", "pyyaml", "orjson")

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentState:
    """How far an environment is, for people to read."""

    status: Literal["pending", "building", "ready", "failed"]
    message: str = ""


@dataclass(slots=True, kw_only=True)
class _Build:
    """A build in progress and those who follow it."""

    task: asyncio.Task[Path] = field(init=False)
    logs: list[Log] = field(default_factory=list)
    latest: str = "started"

    def tell(self, line: str) -> None:
        self.latest = line
        for log in self.logs:
            log(line)


class Environments:
    """The environments under one folder, each kept under the key of what went into it.

    A finished environment is named by a `ready` file, written last. Every build has a folder of its own, so that a uv
    which outlives a killed operator cannot write into the environment that is built after it.
    """

    def __init__(
        self,
        root: Path,
        *,
        uv: Path | None = None,
        base_set: Sequence[str] = BASE_SET,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Keep environments in `root`; `variables` are the process's own unless given."""
        self._root = root
        self._uv = uv or Path(find_uv_bin())
        self._base_set = tuple(base_set)
        self._variables = uv_variables(os.environ if variables is None else variables)
        self._builds: dict[str, _Build] = {}
        self._failures: dict[str, str] = {}

    def key(self, project: Path, requirements: Path, *, wants_gpu: bool) -> str:
        """Name the environment that these requirements give."""
        return self._recipe(project, requirements, wants_gpu=wants_gpu).key()

    def state(self, key: str) -> EnvironmentState:
        """Say how far an environment is."""
        if build := self._builds.get(key):
            return EnvironmentState(status="building", message=build.latest)
        if self._finished(key):
            return EnvironmentState(status="ready")
        if failure := self._failures.get(key):
            return EnvironmentState(status="failed", message=failure)
        return EnvironmentState(status="pending")

    async def ensure(self, project: Path, requirements: Path, *, wants_gpu: bool, log: Log) -> Path:
        """Give the interpreter of the project's environment, building it first if need be.

        Callers who need the same environment share one build; each follows it in its own log from when it asked. A
        cancelled caller leaves the build to the others, the last one ends it. Raises `EnvironmentFailed` with uv's
        message; asking again builds again.
        """
        recipe = self._recipe(project, requirements, wants_gpu=wants_gpu)
        key = recipe.key()
        if interpreter := self._finished(key):
            return interpreter
        build = self._builds.get(key)
        if build is None:
            log("installing the project's requirements...")
            build = self._start(key, recipe)
        else:
            log(f"waiting for the project's requirements, which are being installed already: {build.latest}")
        build.logs.append(log)
        try:
            return await asyncio.shield(build.task)
        finally:
            build.logs.remove(log)
            if not build.logs and not build.task.done():
                await self._abandon(key, build)

    def _recipe(self, project: Path, requirements: Path, *, wants_gpu: bool) -> Recipe:
        return Recipe(
            project=project,
            requirements=requirements,
            base_set=self._base_set,
            wants_gpu=wants_gpu,
            variables=self._variables,
        )

    def _start(self, key: str, recipe: Recipe) -> _Build:
        self._failures.pop(key, None)
        build = self._builds[key] = _Build()
        build.task = asyncio.create_task(self._run(key, recipe, build))
        return build

    async def _run(self, key: str, recipe: Recipe, build: _Build) -> Path:
        try:
            return await self._build(key, recipe, build.tell)
        except EnvironmentFailed as failure:
            self._failures[key] = str(failure)
            raise
        finally:
            if self._builds.get(key) is build:
                del self._builds[key]

    async def _abandon(self, key: str, build: _Build) -> None:
        del self._builds[key]  # whoever asks from now on starts anew
        build.task.cancel()
        await asyncio.wait([build.task])

    async def _build(self, key: str, recipe: Recipe, tell: Log) -> Path:
        home = self._root / "environments" / key
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        folder = home / token_hex(4)
        home.mkdir(parents=True, exist_ok=True)
        try:
            packages = await build_environment(recipe, folder, uv=self._uv, cache=self._root / "uv-cache", tell=tell)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        written = home / f"{folder.name}.ready"
        written.write_text(json.dumps({"folder": folder.name, "packages": packages}, indent=2), encoding="utf-8")
        written.replace(home / "ready")
        return _interpreter(folder)

    def _finished(self, key: str) -> Path | None:
        home = self._root / "environments" / key
        try:
            folder = json.loads((home / "ready").read_text(encoding="utf-8"))["folder"]
        except (FileNotFoundError, ValueError):
            return None
        interpreter = _interpreter(home / folder)
        return interpreter if interpreter.exists() else None  # its base Python may have been removed


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"
