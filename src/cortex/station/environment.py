"""The environment of a project on a node: built by one station, for all that need the same.

Imported only where a project has requirements: what it needs takes a Worker's time to import.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from cortex.environments import Environments
from cortex.station.shared import Shared

REQUIREMENTS: Final = "requirements.txt"


async def have_environment(shared: Shared, project: Path, *, wants_gpu: bool, say: Callable[[str], None]) -> Path:
    """Give its interpreter. May take minutes. Raises EnvironmentFailed."""
    environments, requirements = Environments(shared.root), project / REQUIREMENTS
    key = environments.key(project, requirements, wants_gpu=wants_gpu)
    name = _name(environments.homes / key, shared)
    await shared.keep(name)
    if environments.state(key).status != "ready":
        await shared.keep(_name(environments.cache, shared))
        async with shared.alone(name):
            return await environments.ensure(project, requirements, wants_gpu=wants_gpu, log=say)
    return await environments.ensure(project, requirements, wants_gpu=wants_gpu, log=say)


def _name(path: Path, shared: Shared) -> str:
    return str(path.relative_to(shared.root))
