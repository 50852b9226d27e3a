"""Bundles: projects and models, packed for the machines that Workers run on elsewhere, and read in pieces.

Packing the same folder again gives the same bytes. So one that nobody has read for a while is removed, and who comes
back finds it where it was.
"""

import asyncio
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from cortex.domain.frame import PIECE_BYTES, Frame
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket
from cortex.engines.model_looks import model_bundles, model_paths

_KEPT_SECONDS: Final = 600.0
_MODEL_READERS: Final = 8
_TIME: Final = 315532800  # the beginning of 1980: what archives can say
_LEFT_OUT: Final = "__pycache__"  # Workers write there as they import


class NoBundle(Exception):
    """There is no such thing for this station."""


@dataclass(slots=True)
class _Packing:
    """A bundle, or one that is being packed."""

    path: Path
    packed: asyncio.Future[None]
    readers: set[str] = field(default_factory=set)  # folders of the Jobs that may read it, of those that have asked
    read_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class Bundles:
    """See the module. Methods are called in the operator's loop; what takes long is done in threads."""

    data: Path
    model_readers: Executor = field(default_factory=partial(ThreadPoolExecutor, _MODEL_READERS, "model-reader"))
    _bundles: dict[str, _Packing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with none: what an earlier operator has packed may be of what is not there any more."""
        shutil.rmtree(self._root, ignore_errors=True)

    @property
    def _root(self) -> Path:
        return self.data / "bundles"

    async def read(self, ticket: Ticket, asked: Frame) -> tuple[Frame, bytes]:
        """Give the piece that a station asks for, or why there is none."""
        name, offset = asked["bundle"], asked["offset"]
        answer = {"type": "piece", "id": asked["id"], "offset": offset}
        try:
            total, data = await self._read(ticket, name, offset)
        except (NoBundle, OSError) as error:
            return {**answer, "total": 0, "error": f"`{name}` cannot be had from the operator: {error}"}, b""
        return {**answer, "total": total, "error": None}, data

    async def _read(self, ticket: Ticket, name: str, offset: int) -> tuple[int, bytes]:
        self._remove_unread()
        if name not in self._bundles or ticket.folder not in self._bundles[name].readers:
            in_thread = partial(asyncio.get_running_loop().run_in_executor, self._readers_of(name))
            source, beside = await in_thread(self._find, ticket, name)
            if name not in self._bundles:
                path = self._root / f"{name.replace('/', '-')}.tar"
                self._bundles[name] = _Packing(path, in_thread(_pack, source, beside, path))
            self._bundles[name].readers.add(ticket.folder)
        bundle = self._bundles[name]
        bundle.read_at = time.monotonic()
        try:
            await asyncio.shield(bundle.packed)
        except BaseException:
            if bundle.packed.done():  # the next one who asks may be luckier
                self._bundles.pop(name, None)
            raise
        return await asyncio.to_thread(_read_piece, bundle.path, offset)

    def _readers_of(self, name: str) -> Executor | None:
        """Give the threads that read this. Models may lie on a disk that does not answer: nothing else is to wait."""
        return self.model_readers if name.startswith("model/") else None

    def _find(self, ticket: Ticket, name: str) -> tuple[Path, bool]:
        """Find what a station asks for, and say whether its own name is in the bundle. Raises NoBundle.

        That is the project of its Worker, and the models that this is to load, wherever they lie.
        """
        kind, _, key = name.partition("/")
        project = self.data / "projects" / key
        if kind == "project" and key == ticket.project_id and project.is_dir():
            return project, False
        if kind == "model":
            setup = JobFolder(Path(ticket.folder)).setup.read_text(encoding="utf-8")
            for path, bundle in model_bundles(model_paths(setup), self.data).items():
                if bundle == name:
                    return Path(path), True
        raise NoBundle("there is no such bundle")

    def _remove_unread(self) -> None:
        now = time.monotonic()
        for name, bundle in list(self._bundles.items()):
            if bundle.packed.done() and now - bundle.read_at > _KEPT_SECONDS:
                del self._bundles[name]
                bundle.path.unlink(missing_ok=True)


def _pack(source: Path, has_own_name: bool, bundle: Path) -> None:
    """Pack a folder's content, or a file or folder by its own name. Slow."""
    bundle.parent.mkdir(exist_ok=True)
    unfinished = bundle.with_suffix(".new")
    base = source.parent if has_own_name else source
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _files(source):
            name = path.relative_to(base)
            if name.parts:
                _add(archive, path, str(name))
    unfinished.replace(bundle)


def _files(source: Path) -> Iterator[Path]:
    """Give a file or folder and all that is in it, each folder before what is in it."""
    yield source
    if source.is_dir():
        for path in sorted(source.iterdir()):
            if path.name != _LEFT_OUT:
                yield from _files(path)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    about = path.stat()  # of what a link leads to: on another machine, it would lead nowhere
    entry = tarfile.TarInfo(name)
    entry.mtime = _TIME
    if path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        return
    entry.size, entry.mode = about.st_size, 0o755 if about.st_mode & 0o100 else 0o644
    with path.open("rb") as file:
        archive.addfile(entry, file)


def _read_piece(bundle: Path, offset: int) -> tuple[int, bytes]:
    with bundle.open("rb", buffering=0) as file:
        return os.fstat(file.fileno()).st_size, os.pread(file.fileno(), PIECE_BYTES, offset)
