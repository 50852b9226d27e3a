"""Files of this machine in a submission: named to an operator that sees them too, or uploaded to one that does not."""

import hashlib
import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final

from cortex.answers import OperatorInfo

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file of this machine, and what it is called in an upload."""

    name: str
    path: Path
    size_bytes: int
    version: str  # another one as soon as the content is another


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Files that go to the operator; the same files have the same id, so that a second attempt goes on with them."""

    id: str
    files: Sequence[LocalFile]

    @property
    def total_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)

    def url(self, name: str) -> str:
        """Give the URL of what has this name, or whose names begin with it."""
        return f"upload://{self.id}/{name}"


def make_upload(files: Iterable[LocalFile]) -> Upload:
    """Name an upload after what is in it."""
    chosen = tuple(files)
    facts = [[file.name, str(file.path), file.size_bytes, file.version] for file in chosen]
    text = json.dumps(sorted(facts)).encode()
    return Upload(id=hashlib.sha256(text).hexdigest()[:32], files=chosen)


def shares_files(operator: OperatorInfo) -> bool:
    """Tell whether an operator sees the files of this machine: its data directory is here, with its own note in it."""
    try:
        note = json.loads(Path(operator["data_dir"], "operator.json").read_text(encoding="utf-8"))
        return bool(operator["instance"]) and note["instance"] == operator["instance"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def is_local(entry: str) -> bool:
    """Tell whether an entry is a path here, not a URL."""
    return not _SCHEME.match(entry)


def absolute(entry: str) -> str:
    """Write a path as the operator knows it: from the root on, and a folder with a `/` at its end."""
    # Of `os.path`, which takes what it may not see, or nobody's home, for what is not there, where pathlib raises.
    path = Path(os.path.expanduser(entry)).absolute()  # noqa: PTH111
    if ".." in path.parts:
        path = Path(os.path.realpath(path.parent), path.name) if path.name != ".." else Path(os.path.realpath(path))
    is_folder = entry.endswith("/") or os.path.isdir(path)  # noqa: PTH112
    return f"{path}/" if is_folder and path.name else str(path)


def common_root(paths: Sequence[str]) -> str:
    """Give the folder, with its `/`, that all of these paths lie in."""
    folders = [path if path.endswith("/") else os.path.dirname(path) for path in paths]  # noqa: PTH120 - text stays text
    return os.path.commonpath(folders).rstrip("/") + "/"


def longer_names(paths: Sequence[str]) -> list[str]:
    """Give globs for what begins with the name of a file that is meant alone: `a.json.bak` where `a.json` is.

    To the operator a path is a prefix, as on S3. But who names a file that is there, means that file.
    """
    files = {path for path in paths if os.path.isfile(path)}  # noqa: PTH113 - see `absolute`
    prefixes = tuple(path for path in paths if path not in files)
    neighbours = {folder: _names_in(folder) for folder in {Path(path).parent for path in files}}
    globs = []
    for path in sorted(files):
        names = neighbours[Path(path).parent]
        others = list(takewhile(partial(_begins_with, path), names[bisect_right(names, path) :]))
        unwanted = [other for other in others if other not in files and not _is_wanted(f"{other}/", prefixes)]
        if unwanted == others:
            globs += [f"{_escaped(path)}?**"] if others else []
        else:
            globs += [f"{_escaped(other)}{{,/**}}" for other in unwanted]
    return globs


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(map(str, folder.iterdir()))
    except OSError:  # whoever lists the files says what is wrong with it
        return []


def _begins_with(beginning: str, path: str) -> bool:
    return path.startswith(beginning)


def _is_wanted(path: str, prefixes: tuple[str, ...]) -> bool:
    return path.startswith(prefixes) or any(prefix.startswith(path) for prefix in prefixes)


def _escaped(path: str) -> str:
    return re.sub(r"([\\*?\[\]{},])", r"\\\1", path)
