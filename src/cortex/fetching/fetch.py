"""Looking a model up where users keep it, and fetching it unless its content is here.

What was fetched lies in a folder by the key of its content, which is there from one moment to the next: the files, and
`model.json`, which says where they are from, and by its time when they were last asked for.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from cortex.domain.errors import FileChanged, FilesUnavailable, ModelFailed
from cortex.fetching.events import Fetching, Here
from cortex.fetching.shape import check_file, find_model, hint_for
from cortex.files.address import local_path, read_address
from cortex.files.files import FileInfo, Files
from cortex.storage.files import sync_file

_MOST_FILES: Final = 10_000
_PIECE_BYTES: Final = 2**20
_TELL_SECONDS: Final = 1.0
_LOOKS: Final = 3
"""So often a model that changes while it is fetched is looked up again."""

ABOUT: Final = "model.json"
_FILES: Final = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A model where users keep it."""

    folder: str  # the URL that the names of the files follow
    files: Sequence[FileInfo]
    path: str  # what is loaded, below the folder; empty for the whole folder
    file: FileInfo  # one of the files, which must be readable


def look_up(files: Files, predictor_type: str, url: str) -> Found:
    """Find the files of a model. Raises FilesError, and ModelFailed where what is there is none."""
    if not url.endswith("/"):
        first = next(files.list(url), None)
        if first is not None and first.url == url:
            check_file(predictor_type, url)
            folder, _, name = url.rpartition("/")
            return Found(folder=f"{folder}/", files=[first], path=name, file=first)
    folder = url.rstrip("/") + "/"
    listed = {file.url.removeprefix(folder): file for file in islice(files.list(folder), _MOST_FILES + 1)}
    if not listed:
        raise ModelFailed(f"there is nothing at `{url}`", hint="upper and lower case count")
    if len(listed) > _MOST_FILES:
        raise ModelFailed(f"`{url}` has more than {_MOST_FILES} files", hint=hint_for(predictor_type))
    shape = find_model(predictor_type, folder, list(listed))
    return Found(folder=folder, files=[listed[name] for name in shape.names], path=shape.path, file=listed[shape.file])


def find_here(files: Files, predictor_type: str, url: str) -> Path:
    """Find a model on this machine's disk, and give what is loaded. Raises FilesError and ModelFailed."""
    found = look_up(files, predictor_type, os.fsdecode(local_path(url)))
    files.open(found.file).close()
    return Path(found.folder, found.path)


def fetch(
    files: Files, predictor_type: str, url: str, models: Path, unfinished: Path, tell: Callable[[Fetching], None]
) -> Here:
    """Have a model's present content in the folder `models`. Raises FilesError, ModelFailed and OSError.

    Where its storage does not answer, what was fetched last is given.
    """
    for _ in range(_LOOKS - 1):
        with suppress(FileChanged):
            return _fetch(files, predictor_type, url, models, unfinished, tell)
    return _fetch(files, predictor_type, url, models, unfinished, tell)


def _fetch(
    files: Files, predictor_type: str, url: str, models: Path, unfinished: Path, tell: Callable[[Fetching], None]
) -> Here:
    origin = {"type": predictor_type, "url": url}
    try:
        found = look_up(files, predictor_type, url)
    except FilesUnavailable as error:
        known = _last_fetched(models, origin)
        if known is None:
            raise
        return Here(path=_use(known), doubt=error.message)
    home = models / _key(predictor_type, found)
    with suppress(FileNotFoundError):
        return Here(path=_use(home))
    names = [file.url.removeprefix(found.folder) for file in found.files]
    _check_names(url, names)
    total = sum(file.size_bytes for file in found.files)
    paths = [unfinished / _FILES / name for name in names]
    tell_seldom = _seldom(tell, total)
    shutil.rmtree(unfinished, ignore_errors=True)  # what changed while it was fetched
    for file, path in zip(found.files, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        _copy(files, file, path, tell_seldom)
    about = unfinished / ABOUT
    about.write_text(json.dumps({**origin, "path": found.path}), encoding="utf-8")
    for written in [about, *{folder for path in paths for folder in path.parents if folder.is_relative_to(unfinished)}]:
        sync_file(written)
    models.mkdir(parents=True, exist_ok=True)
    unfinished.rename(home)
    sync_file(models)
    return Here(path=_use(home), fetched_bytes=total)


def _key(predictor_type: str, found: Found) -> str:
    content = [predictor_type, found.path, [(file.url, file.size_bytes, file.version) for file in found.files]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _use(home: Path) -> str:
    """Note that what was fetched is asked for; give what of it is loaded. Raises FileNotFoundError."""
    about = home / ABOUT
    os.utime(about)
    path: str = json.loads(about.read_text(encoding="utf-8"))["path"]
    return os.fspath(home / _FILES / path)


def _last_fetched(models: Path, origin: dict[str, str]) -> Path | None:
    """Give what was last asked for of all that was fetched from there."""
    homes = [home for home, about in read_all(models) if origin.items() <= about.items()]
    return max(homes, key=lambda home: (home / ABOUT).stat().st_mtime_ns, default=None)


def read_all(models: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give the folders of all that was fetched, and what is written about each."""
    with suppress(FileNotFoundError):
        for home in models.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError, ValueError):
                yield home, json.loads((home / ABOUT).read_text(encoding="utf-8"))


def _check_names(url: str, names: Sequence[str]) -> None:
    """Refuse names of objects that a file cannot have: one may lead anywhere."""
    for name in names:
        if not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise ModelFailed(f"`{url}` has a file that cannot be one on a disk: `{name}`", hint="rename or remove it")


def _copy(files: Files, file: FileInfo, path: Path, tell: Callable[[int], None]) -> None:
    with files.open(file) as source, path.open("wb") as target:
        while piece := source.read(_PIECE_BYTES):
            target.write(piece)
            tell(len(piece))
        target.flush()
        os.fsync(target.fileno())


def _seldom(tell: Callable[[Fetching], None], total: int) -> Callable[[int], None]:
    """Give what is told of each piece, and tells how many bytes are done: at once, and every second."""
    done, next_at = 0, 0.0

    def count(more: int) -> None:
        nonlocal done, next_at
        done += more
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + _TELL_SECONDS
            tell(Fetching(done_bytes=done, total_bytes=total))

    count(0)
    return count


def is_on_this_machine(url: str) -> bool:
    """Tell whether a model is used where it lies."""
    return read_address(url).scheme == "file"
