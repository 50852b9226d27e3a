"""Have the environment of a project ready: build it once, share it with everyone who needs the same."""

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

from uv import find_uv_bin

from cortex.domain.errors import EnvironmentFailed
from cortex.domain.preparation_state import PreparationState
from cortex.environments.build import build_environment
from cortex.environments.pip_settings import uv_variables
from cortex.environments.recipe import Recipe
from cortex.shared_work import Log, SharedWork

BASE_SET = ("requests", "boto3", "numpy", "pillow", "pyyaml", "msgspec", "orjson")

_READY: Final = "ready"


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
        self._builds: dict[str, SharedWork] = {}
        self._failures: dict[str, str] = {}

    def key(self, project: Path, requirements: Path, *, wants_gpu: bool) -> str:
        """Name the environment that these requirements give."""
        return self._recipe(project, requirements, wants_gpu=wants_gpu).key()

    def state(self, key: str) -> PreparationState:
        """Say how far an environment is."""
        if build := self._builds.get(key):
            return PreparationState(status="building", message=build.latest)
        if self._finished(key):
            return PreparationState(status="ready")
        if failure := self._failures.get(key):
            return PreparationState(status="failed", message=failure)
        return PreparationState(status="pending")

    async def ensure(self, project: Path, requirements: Path, *, wants_gpu: bool, log: Log) -> Path:
        """Give the interpreter of the project's environment, building it first if need be.

        Callers who need the same environment share one build; each follows it in its own log from when it asked. A
        cancelled caller leaves the build to the others, the last one ends it. Raises `EnvironmentFailed` with uv's
        message; asking again builds again.
        """
        recipe = self._recipe(project, requirements, wants_gpu=wants_gpu)
        key = recipe.key()
        if interpreter := self._finished(key):
            with suppress(OSError):  # a disk that cannot be written to is no reason not to read it
                os.utime(self._home(key) / _READY)
            return interpreter
        build = self._builds.get(key)
        if build is None:
            log("installing the project's requirements...")
            build = self._start(key, recipe)
        else:
            log(f"waiting for the project's requirements, which are being installed already: {build.latest}")
        return await build.wait(log, forget=lambda: self._forget(key, build))

    def last_used_ns(self) -> dict[str, int]:
        """Give the keys of all that is there, finished or left by a build that broke off, and when each was asked for.

        What is being built is left out.
        """
        used: dict[str, int] = {}
        with suppress(FileNotFoundError):
            for home in self.homes.iterdir():
                ready = home / _READY
                with suppress(FileNotFoundError):
                    used[home.name] = (ready if ready.exists() else home).stat().st_mtime_ns
        return {key: at_ns for key, at_ns in used.items() if key not in self._builds}

    @property
    def homes(self) -> Path:
        """The folder of all environments; each has one by its key, and what runs in it was started from there."""
        return self._root / "environments"

    @property
    def cache(self) -> Path:
        """The packages that were downloaded; the files of the environments are links to them."""
        return self._root / "uv-cache"

    def take_away(self, key: str, last_used_ns: int, destination: Path) -> bool:
        """Move an environment to where it can be removed, unless it is being built or was asked for since then."""
        if self.last_used_ns().get(key) != last_used_ns:
            return False
        self._home(key).rename(destination)
        return True

    def take_cache_away(self, destination: Path) -> bool:
        """Move the downloaded packages to where they can be removed, unless a build may need them."""
        if self._builds or not self.cache.exists():
            return False
        self.cache.rename(destination)
        return True

    def _home(self, key: str) -> Path:
        return self.homes / key

    def _recipe(self, project: Path, requirements: Path, *, wants_gpu: bool) -> Recipe:
        return Recipe(
            project=project,
            requirements=requirements,
            base_set=self._base_set,
            wants_gpu=wants_gpu,
            variables=self._variables,
        )

    def _start(self, key: str, recipe: Recipe) -> SharedWork:
        self._failures.pop(key, None)
        build = self._builds[key] = SharedWork(latest="started")
        build.task = asyncio.create_task(self._run(key, recipe, build))
        return build

    async def _run(self, key: str, recipe: Recipe, build: SharedWork) -> Path:
        try:
            return await self._build(key, recipe, build.tell)
        except EnvironmentFailed as failure:
            self._failures[key] = str(failure)
            raise
        finally:
            self._forget(key, build)

    def _forget(self, key: str, build: SharedWork) -> None:
        if self._builds.get(key) is build:
            del self._builds[key]

    async def _build(self, key: str, recipe: Recipe, tell: Log) -> Path:
        home = self._home(key)
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        folder = home / token_hex(4)
        home.mkdir(parents=True, exist_ok=True)
        try:
            packages = await build_environment(recipe, folder, uv=self._uv, cache=self.cache, tell=tell)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        written = home / f"{folder.name}.ready"
        written.write_text(json.dumps({"folder": folder.name, "packages": packages}, indent=2), encoding="utf-8")
        written.replace(home / _READY)
        return _interpreter(folder)

    def _finished(self, key: str) -> Path | None:
        home = self._home(key)
        try:
            folder = json.loads((home / _READY).read_text(encoding="utf-8"))["folder"]
        except (FileNotFoundError, ValueError):
            return None
        interpreter = _interpreter(home / folder)
        return interpreter if interpreter.exists() else None  # its base Python may have been removed


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"
