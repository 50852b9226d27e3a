"""Which files of a folder belong to the project."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from cortex.domain.errors import InvalidProject
from cortex.project.rules import find_path_problem

IGNORE_FILE = ".cortexignore"
VARIABLES_FILE = ".env"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFile:
    """A file that belongs to the project, with its path in it."""

    path: str
    source: Path
    size_bytes: int
    is_executable: bool


@dataclass(slots=True, kw_only=True)
class Listing:
    """The files of the project, and what is in the way of deploying it."""

    files: list[ProjectFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def list_files(root: Path, config_file: str) -> Listing:
    """List the project's files below `root`, sorted by their paths.

    Left out: the configuration file, hidden files and folders (but not `.env` of the root), bytecode, what starts
    with `cortex-debug-`, and what `.cortexignore` says. Links inside the project are followed.
    """
    walk = _Walk(root=root.resolve(), config_file=config_file, ignored=_read_ignore_file(root))
    walk.visit(root, "", frozenset())
    walk.listing.files.sort(key=lambda file: file.path)
    return walk.listing


def _read_ignore_file(root: Path) -> GitIgnoreSpec:
    file = root / IGNORE_FILE
    try:
        return GitIgnoreSpec.from_lines(file.read_text(encoding="utf-8").splitlines() if file.is_file() else [])
    except (OSError, ValueError) as error:
        raise InvalidProject(f"`{IGNORE_FILE}` cannot be read: {error}") from error


@dataclass(slots=True, kw_only=True)
class _Walk:
    root: Path
    config_file: str
    ignored: GitIgnoreSpec
    listing: Listing = field(default_factory=Listing)

    def visit(self, folder: Path, path: str, open_folders: frozenset[Path]) -> None:
        """Take in a folder. `open_folders` are the real ones that we are in: a link back to one would never end."""
        real = folder.resolve()
        if real in open_folders:
            self._refuse(path, "the link leads to a folder that it lies in")
            return
        for entry in self._entries(folder, path):
            child = f"{path}/{entry.name}" if path else entry.name
            try:
                self._take(entry, child, open_folders | {real})
            except (OSError, RuntimeError) as error:  # the second one for links in a circle
                self._refuse(child, f"it cannot be read ({getattr(error, 'strerror', None) or error})")

    def _entries(self, folder: Path, path: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                yield from sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._refuse(path, f"it cannot be read ({error.strerror or error})")

    def _take(self, entry: os.DirEntry[str], path: str, open_folders: frozenset[Path]) -> None:
        is_folder = _is_folder(entry)
        if not self._belongs(entry.name, path, is_folder=is_folder):
            return
        if entry.is_symlink() and not self._is_inside(entry):
            self._refuse(path, f"it is a link to `{Path(entry.path).readlink()}`, outside of the project")
        elif problem := find_path_problem(path):
            self._refuse(path, problem)
        elif is_folder:
            self.visit(Path(entry.path), path, open_folders)
        else:
            self._take_file(Path(entry.path), path)

    def _take_file(self, source: Path, path: str) -> None:
        found = source.stat()
        if not stat.S_ISREG(found.st_mode):
            self._refuse(path, "it is neither a file nor a folder")
            return
        is_executable = bool(found.st_mode & stat.S_IXUSR)
        self.listing.files.append(
            ProjectFile(path=path, source=source, size_bytes=found.st_size, is_executable=is_executable)
        )

    def _belongs(self, name: str, path: str, *, is_folder: bool) -> bool:
        if path == VARIABLES_FILE and not is_folder:
            return True
        if path == self.config_file or name.startswith((".", "cortex-debug-")) or name == "__pycache__":
            return False
        if not is_folder and name.endswith((".pyc", ".pyo", ".pyd")):
            return False
        # A folder that is left out is not entered, so nothing below it can be called back: git's rule, and quick.
        return not self.ignored.match_file(f"{path}/" if is_folder else path)

    def _is_inside(self, entry: os.DirEntry[str]) -> bool:
        return Path(entry.path).resolve(strict=True).is_relative_to(self.root)

    def _refuse(self, path: str, reason: str) -> None:
        self.listing.problems.append(f"`{ascii(path)[1:-1] or '.'}`: {reason}")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed; whether that matters depends on its name
        return False
