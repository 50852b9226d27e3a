"""The start of a Worker as its supervisor here is told of it: the operator's paths become those of this node."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.domain.worker_variables import worker_variables

_OF_STATION: Final = frozenset({"setup", "project_id", "models", "requirements", "wants_gpu"})
_NOT_INHERITED: Final = ("RAY_", "PYTHON", "VIRTUAL_ENV", "CORTEX_")
"""What begins so is about the processes that have started this one, and nothing that a Worker is to know."""

_VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a Worker is started from, as it lies on this node."""

    python: Path  # the interpreter
    project: Path
    models: Mapping[str, Path]  # by the operator's paths


def rewrite_start(
    start: Frame, ready: Ready, *, folder: JobFolder, channel: Path, environ: Mapping[str, str]
) -> tuple[Frame, str]:
    """Give the frame for the supervisor, and the text of the folder's `setup.json`."""
    setup = json.loads(start["setup"])
    for model in setup.get("models", []):
        model["path"] = str(_local(Path(model["path"]), Path(start["order"]["project"]), ready))
    order: dict[str, Any] = dict(start["order"])
    inherited = {name: value for name, value in environ.items() if not name.startswith(_NOT_INHERITED)}
    env = dict(order["env"])
    if not start["wants_gpu"]:
        env[_VISIBLE_DEVICES] = ""  # those of others; which ones are its own, whoever has placed us has said
    order.update(folder=str(folder.root), channel=str(channel), project=str(ready.project), env=env)
    frame = {name: value for name, value in start.items() if name not in _OF_STATION}
    frame.update(
        python=str(ready.python),
        env={**worker_variables(inherited, ready.python), **env},
        log=str(folder.log),
        is_only_one=True,
        order=order,
    )
    return frame, json.dumps(setup)


def _local(path: Path, project: Path, ready: Ready) -> Path:
    """Give where on this node a model of the operator's lies."""
    if path.is_relative_to(project):
        return ready.project / path.relative_to(project)
    for operators, ours in ready.models.items():
        if path.is_relative_to(operators):
            return ours / path.relative_to(operators)
    return path  # on a disk that all machines see
