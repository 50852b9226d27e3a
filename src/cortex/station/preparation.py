"""Making ready on a node what a Worker needs: its project, its models, its environment."""

import asyncio
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path, PurePath
from typing import Protocol

from cortex.domain.errors import CortexError
from cortex.domain.frame import Frame
from cortex.station.bundle import BundleDamaged
from cortex.station.bundles import Bundles
from cortex.station.shared import Shared
from cortex.station.start_frame import Ready


class HaveEnvironment(Protocol):
    """See station.environment."""

    async def __call__(self, shared: Shared, project: Path, *, wants_gpu: bool, say: Callable[[str], None]) -> Path:
        """See there."""


class Preparation:
    """See the module. What is there is used, and what another station makes is waited for."""

    def __init__(self, shared: Shared, bundles: Bundles, *, say: Callable[[str], None]) -> None:
        """`say` writes a line to the Job's log."""
        self._shared = shared
        self._bundles = bundles
        self._say = say

    async def make_ready(self, start: Frame) -> Ready:
        """Have all of it, as a start frame asks for it. May take minutes. Raises CortexError."""
        try:
            project, models = await asyncio.gather(self._project(start["project_id"]), self._models(start["models"]))
        except BundleDamaged as error:
            raise CortexError(f"what the operator has packed for this machine cannot be used: {error}") from error
        except OSError as error:
            raise CortexError(f"what the operator has packed cannot be written to this machine: {error}") from error
        python = Path(sys.executable)
        if start["requirements"]:
            have: HaveEnvironment = import_module("cortex.station.environment").have_environment
            python = await have(self._shared, project, wants_gpu=start["wants_gpu"], say=self._say)
        return Ready(python=python, project=project, models=models)

    async def _project(self, project_id: str) -> Path:
        return await self._bundle(f"project/{project_id}")

    async def _models(self, bundles: dict[str, str]) -> dict[str, Path]:
        having = (self._bundle(bundle, name=PurePath(path).name) for path, bundle in bundles.items())
        homes = await asyncio.gather(*having)
        return {path: home / PurePath(path).name for path, home in zip(bundles, homes, strict=True)}

    async def _bundle(self, bundle: str, *, name: str | None = None) -> Path:
        kind, _, key = bundle.partition("/")

        async def make(folder: Path) -> None:
            if name is not None:
                self._say(f"copying the model `{name}` to the worker's machine...")
            await self._bundles.unpack(bundle, folder)

        return await self._shared.have(f"{kind}s/{key}", make)
