"""The models of a version: what it asks for, and how that comes to be loadable on this machine."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cortex.configuration.models import is_in_project
from cortex.domain.errors import CortexError, FilesError, ModelFailed
from cortex.domain.preparation_state import PreparationState
from cortex.fetching.fetch import find_here
from cortex.files.folder import FolderFiles
from cortex.predictor.models import ONLY_MODEL, LocalModel
from cortex.storage.ledger import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A model as the configuration names it."""

    name: str
    path: str  # below the project, or a URL
    signature_key: str | None


class ModelSource(Protocol):
    """Who has models that lie outside of projects."""

    def state(self, predictor_type: str, url: str) -> PreparationState:
        """Say how far a model is."""

    async def fetch(self, predictor_type: str, url: str, log: Callable[[str], None]) -> Path:
        """Give what is loaded, fetched if need be. Raises ModelFailed."""


def models_of(version: Version) -> list[NamedModel]:
    """Give the models that a version asks for, in the order of its configuration."""
    predictor: dict[str, Any] = version.spec.get("predictor", {})  # a TrafficSplitter has none
    if (path := predictor.get("model_path")) is not None:
        return [NamedModel(name=ONLY_MODEL, path=path, signature_key=predictor.get("signature_key"))]
    return [
        NamedModel(name=model["name"], path=model["model_path"], signature_key=model["signature_key"])
        for model in predictor.get("models") or ()  # an earlier release has written none
    ]


@dataclass(slots=True, kw_only=True)
class Models:
    """See the module."""

    source: ModelSource
    _failures: dict[str, str] = field(default_factory=dict)  # by version

    async def have(self, version: Version, project: Path, log: Callable[[str], None]) -> tuple[LocalModel, ...]:
        """Have all models of a version; tell the log how it goes. Raises ModelFailed for the first that fails."""
        models = models_of(version)
        having = [asyncio.ensure_future(self._have(version, model, project, log)) for model in models]
        try:
            paths = await asyncio.gather(*having)
        except CortexError as error:
            self._failures[version.api_id] = str(error)
            raise
        finally:
            for one in having:
                one.cancel()
        self._failures.pop(version.api_id, None)
        return _local(models, paths)

    def state(self, version: Version) -> PreparationState | None:
        """Say how far the models are together; None where there is nothing to say."""
        states = [
            self.source.state(version.spec["predictor"]["type"], model.path)
            for model in models_of(version)
            if not is_in_project(model.path)
        ]
        for status in ("building", "failed"):
            for state in states:
                if state.status == status:
                    return state
        if failure := self._failures.get(version.api_id):
            return PreparationState(status="failed", message=failure)
        return states[0] if states and all(state.status == "ready" for state in states) else None

    async def _have(self, version: Version, model: NamedModel, project: Path, log: Callable[[str], None]) -> Path:
        kind = version.spec["predictor"]["type"]
        if not is_in_project(model.path):
            return await self.source.fetch(kind, model.path, log)
        files = FolderFiles(allowed=(project,))
        try:
            return await asyncio.to_thread(find_here, files, kind, str(project / model.path))
        except (FilesError, ModelFailed) as error:
            message = error.message.replace(f"{project}/", "")
            raise ModelFailed(f"model {model.path}: {message}", hint=error.hint) from error


def _local(models: Sequence[NamedModel], paths: Sequence[Path]) -> tuple[LocalModel, ...]:
    return tuple(
        LocalModel(name=model.name, path=path, signature_key=model.signature_key)
        for model, path in zip(models, paths, strict=True)
    )
