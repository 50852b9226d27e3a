"""Which build of torch to install: the ordinary one carries gigabytes for GPUs that a worker without one cannot use."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cortex.environments.pip_settings import local_folder, names_an_index

_CPU_WHEEL = re.compile(r"torch-(?P<version>[\d.]+\+cpu)-(?P<python>cp\d+)-")
_OWN_INDEX = re.compile(r"\s*(?:-i|--index-url|--extra-index-url|--no-index)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to resolve the requirements."""

    constraint: str | None = None
    arguments: tuple[str, ...] = ()


def cpu_builds(variables: Mapping[str, str]) -> list[str]:
    """List the CPU builds of torch for this Python, newest first, in the folders of wheels that uv is told about."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    versions = {
        match["version"]
        for location in variables.get("UV_FIND_LINKS", "").split(",")
        if location and (folder := local_folder(location)) and folder.is_dir()
        for wheel in folder.iterdir()
        if (match := _CPU_WHEEL.match(wheel.name)) and match["python"] == tag
    }
    return sorted(versions, key=_release, reverse=True)


def attempts(variables: Mapping[str, str], requirements: Path, *, wants_gpu: bool) -> Iterator[Attempt]:
    """Give the ways to resolve, best first; the last one adds nothing to what the project and the machine ask for.

    A CPU build is taken from the folders of wheels; else, on a machine that uses the public index, from the index that
    PyTorch keeps for it, which uv asks only when torch turns out to be needed. An index of the user's own means that
    no other may be asked.
    """
    if not wants_gpu and "UV_TORCH_BACKEND" not in variables:
        builds = cpu_builds(variables)
        yield from (Attempt(constraint=f"torch=={version}") for version in builds)
        lines = requirements.read_text(encoding="utf-8", errors="replace").splitlines()
        chooses_index = names_an_index(variables) or any(map(_OWN_INDEX.match, lines))
        if not builds and not chooses_index and sys.platform == "linux":
            yield Attempt(arguments=("--torch-backend", "cpu"))
    yield Attempt()


def describe(packages: Mapping[str, str], *, wants_gpu: bool) -> Iterator[str]:
    """Say which build of torch is among the packages, if any is."""
    version = packages.get("torch")
    if version is None:
        return
    if version.endswith("+cpu"):
        yield f"torch {version} is the CPU build"
        torchvision = packages.get("torchvision", "+cpu")
        if not torchvision.endswith("+cpu"):
            yield f"warning: torchvision {torchvision} is not a CPU build and may not load beside it"
    elif any(name.startswith("nvidia-") for name in packages):
        reason = "" if wants_gpu else ": no CPU build that fits the requirements was found"
        yield f"torch {version} is the CUDA build{reason}"
    else:
        yield f"torch {version} is the index's default build"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
