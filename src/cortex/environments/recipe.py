"""What goes into an environment, and the key that it gives."""

import hashlib
import json
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cortex.environments.pip_settings import mask_passwords
from cortex.environments.torch_build import cpu_builds

_FORMAT = 1  # raise it when the same recipe makes another environment

# These say how uv works and who asks, not what it installs.
_WITHOUT_EFFECT = re.compile(
    r"UV_(?:CACHE_DIR|HTTP_.*|CONCURRENT_.*|LINK_MODE|PYTHON_.*|RUN_.*|.*_USERNAME|.*_PASSWORD)$"
)
_SETTINGS_THAT_NAME_FILES = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_BUILD_CONSTRAINT", "UV_CONFIG_FILE")
_INCLUDES = re.compile(r"\s*(?:-r|-c|--requirement|--constraint)[\s=]*(?P<file>[^\s#]+)")
_EDITABLE = re.compile(r"\s*(?:-e|--editable)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A project's requirements and everything else that decides which packages they become."""

    project: Path
    requirements: Path
    base_set: tuple[str, ...]
    wants_gpu: bool
    variables: Mapping[str, str]  # of the uv commands

    def key(self) -> str:
        """Name the environment: the same for the same content, another one for another.

        What an index offers is not part of it, so versions that the requirements leave open stay as they were when the
        environment was first built. Passwords are not part of it either.
        """
        ingredients = {
            "format": _FORMAT,
            "python": [platform.python_version(), sys.implementation.cache_tag, sys.base_prefix],
            "platform": sysconfig.get_platform(),
            "base set": self.base_set,
            "torch": ["gpu"] if self.wants_gpu else cpu_builds(self.variables),
            "settings": {
                name: mask_passwords(value)
                for name, value in self.variables.items()
                if name.startswith("UV_") and not _WITHOUT_EFFECT.search(name)
            },
            "folder": str(self.project) if self._is_tied_to_its_folder() else "",
            "files": {self._name(file): _digest(file) for file in self._files()},
        }
        return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]

    def own_constraints(self) -> list[str]:
        """List the constraint files that the machine's settings name."""
        names = self.variables.get("UV_CONSTRAINT", "").split()
        return [name if "://" in name else str(Path(name).absolute()) for name in names]

    def _files(self) -> set[Path]:
        """Find the files whose content decides: the requirements, what they include, and what of the project they name.

        Packages outside the project are like an index: where they are looked for is in the key, what is there is not.
        """
        # uv reads these two in the folder where it runs.
        found = {file for name in ("uv.toml", "pyproject.toml") if (file := self.project / name).is_file()}
        for file in self._requirement_files():
            found.add(file)
            for line in _lines(file):
                if not _INCLUDES.match(line):
                    found.update(self._named_in(line))
        return found

    def _requirement_files(self) -> list[Path]:
        named = (name for setting in _SETTINGS_THAT_NAME_FILES for name in self.variables.get(setting, "").split())
        waiting = [self.requirements, *map(Path, named)]
        found: list[Path] = []
        while waiting:
            file = waiting.pop()
            if file not in found and _exists(file) and file.is_file():
                found.append(file)
                included = (match["file"] for line in _lines(file) if (match := _INCLUDES.match(line)))
                waiting.extend((file.parent / name).resolve() for name in included)
        return found

    def _named_in(self, line: str) -> Iterator[Path]:
        # A word that happens to be a file's name is taken for it: a needless rebuild, never a stale environment.
        project = self.project.resolve()
        for word in filter(None, re.split(r"[\s=@;,\[\]\"']+", line)):
            path = (project / re.sub(r"^file:(//)?", "", word)).resolve()
            if path.is_relative_to(project) and _exists(path):
                yield from [path] if path.is_file() else _source_files(path)

    def _is_tied_to_its_folder(self) -> bool:
        return any(_EDITABLE.match(line) for file in self._requirement_files() for line in _lines(file))

    def _name(self, file: Path) -> str:
        project = self.project.resolve()
        return str(file.resolve().relative_to(project)) if file.resolve().is_relative_to(project) else str(file)


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # no name for a file, too long for instance
        return False


def _source_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        # Building and importing a package leave these beside its source.
        parts = path.relative_to(folder).parts
        made = any(part in {"__pycache__", "build"} or part.endswith(".egg-info") for part in parts)
        if path.is_file() and not made:
            yield path


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
