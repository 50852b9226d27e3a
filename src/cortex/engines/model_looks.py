"""Finding out what a station may ask for as models: users keep these wherever they like, also where nothing answers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from cortex.domain.timing import Apart

Found = Callable[[], dict[str, str]]
"""Gives the name of the bundle of each path; raises what looking has raised."""


@dataclass(slots=True, kw_only=True)
class ModelLooks:
    """Looks in other threads, at no more than one time for each Job: all of its Workers wait for the same answer."""

    data: Path  # where projects and fetched models lie
    apart: Apart
    _waiting: dict[str, list[Callable[[Found], None]]] = field(default_factory=dict)

    def look(self, job_id: str, paths: Sequence[Path], then: Callable[[Found], None]) -> None:
        """Name the bundles of a Job's models. At once, and here, if none of them is where its user keeps it."""
        find = partial(model_bundles, paths, self.data)
        if not any(_is_users_own(path, self.data) for path in paths):
            then(find)
            return
        waiting = self._waiting.setdefault(job_id, [])
        waiting.append(then)
        if len(waiting) == 1:
            self.apart(find, partial(self._tell, job_id))

    def _tell(self, job_id: str, found: Found) -> None:
        for then in self._waiting.pop(job_id):
            then(found)


def model_paths(setup: str) -> list[Path]:
    """Give where the models of this `setup.json` lie. Raises ValueError for what is no JSON."""
    return [Path(model["path"]) for model in json.loads(setup).get("models", [])]


def model_bundles(paths: Sequence[Path], data: Path) -> dict[str, str]:
    """Give what a station may ask for as these models: the name of the bundle of each path.

    Each path is a file or a folder; where a model was fetched, it is the folder of all that was fetched with it. What
    lies in a project comes with the project. Slow where models lie on disks that are. Raises OSError.
    """
    models = data / "models"
    named = {}
    for path in paths:
        if path.is_relative_to(models):
            home = models / path.relative_to(models).parts[0]
            named[str(home)] = f"model/{home.name}"
        elif _is_users_own(path, data):
            named[str(path)] = f"model/{_key(path)}"
    return named


def _is_users_own(path: Path, data: Path) -> bool:
    return not path.is_relative_to(data / "models") and not path.is_relative_to(data / "projects")


def _key(path: Path) -> str:
    """Name what lies at a path that its owner may change."""
    found = [f"{name}\0{size}\0{changed_ns}" for name, size, changed_ns in sorted(_files(path))]
    return sha256("\0".join([str(path), *found]).encode(errors="surrogateescape")).hexdigest()[:32]


def _files(path: Path) -> Iterator[tuple[str, int, int]]:
    for each in [path, *(path.rglob("*") if path.is_dir() else [])]:
        about = each.stat()
        yield str(each.relative_to(path)), about.st_size, about.st_mtime_ns
