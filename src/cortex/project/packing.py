"""Pack a project into a zip file that can be sent to an operator."""

import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from cortex.domain.errors import InvalidProject
from cortex.project.listing import IGNORE_FILE, ProjectFile, list_files
from cortex.project.rules import MAX_BYTES, MAX_FILES, in_mebibytes

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_FILE = 0o100644
_EXECUTABLE = 0o100755
_COMPRESSION_LEVEL = 1  # model weights hardly shrink, and most operators are near
_MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedProject:
    """A project as a zip file, open for reading at its start. The file vanishes when it is closed."""

    file: BinaryIO
    file_count: int
    total_bytes: int

    def close(self) -> None:
        """Give up the file. May be repeated."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pack(config_path: Path) -> PackedProject:
    """Pack the folder of a configuration file. The same files give the same bytes.

    Raises `InvalidProject` with every reason why the folder cannot be deployed.
    """
    root = config_path.absolute().parent
    _refuse_top_level(root)
    listing = list_files(root, config_path.name)
    if listing.problems:
        raise _cannot_deploy(listing.problems)
    _refuse_too_much(listing.files)
    file: BinaryIO = tempfile.TemporaryFile(prefix="cortex-project-", suffix=".zip")  # noqa: SIM115 (it is handed on)
    try:
        total_bytes = _write_zip(file, listing.files)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return PackedProject(file=file, file_count=len(listing.files), total_bytes=total_bytes)


def _refuse_top_level(root: Path) -> None:
    if root.resolve() in {Path("/"), Path.home().resolve()}:
        raise InvalidProject(
            f"`{root}` cannot be deployed: everything below it would be sent",
            hint="move the configuration file and the files of the project to a folder of their own",
        )


def _cannot_deploy(problems: list[str]) -> InvalidProject:
    more = len(problems) - _MAX_PROBLEMS
    shown = [*problems[:_MAX_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]
    return InvalidProject(
        "\n".join(["the project cannot be deployed:", *shown]),
        hint=f"remove what is not needed, or name it in `{IGNORE_FILE}` (rules as in .gitignore)",
    )


def _refuse_too_much(files: list[ProjectFile]) -> None:
    total_bytes = sum(file.size_bytes for file in files)
    if total_bytes <= MAX_BYTES and len(files) <= MAX_FILES:
        return
    limit = f"at most {MAX_FILES:,} files and {in_mebibytes(MAX_BYTES)} can be sent"
    lines = [f"the project is too large: it has {len(files):,} files and {in_mebibytes(total_bytes)}; {limit}"]
    lines += _describe_largest(files, by_count=total_bytes <= MAX_BYTES)
    raise InvalidProject("\n".join(lines), hint=f"name what is not needed in `{IGNORE_FILE}` (rules as in .gitignore)")


def _describe_largest(files: Iterable[ProjectFile], *, by_count: bool) -> list[str]:
    """List the three folders in which most of the project lies."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for file in files:
        parts = file.path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            counts[folder] += 1
            sizes[folder] += file.size_bytes
    weights = counts if by_count else sizes
    top = [(folder, weight) for folder, weight in weights.most_common() if "/" not in folder]
    found = [_narrow(folder, weights) for folder, _ in top[:3]]
    return [f"  {folder}/: {counts[folder]:,} files, {in_mebibytes(sizes[folder])}" for folder in found]


def _narrow(folder: str, weights: Counter[str]) -> str:
    """Go down to the folder that really holds the weight."""
    while True:
        inside = [child for child in weights if child.rpartition("/")[0] == folder]
        heaviest = max(inside, key=lambda child: weights[child], default=folder)
        if heaviest == folder or weights[heaviest] < 0.9 * weights[folder]:
            return folder
        folder = heaviest


def _write_zip(target: BinaryIO, files: list[ProjectFile]) -> int:
    total_bytes = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL) as archive:
        for file in files:
            info = zipfile.ZipInfo(file.path, _LONG_AGO)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, whose permissions follow
            info.external_attr = (_EXECUTABLE if file.is_executable else _FILE) << 16
            try:
                with file.source.open("rb") as source, archive.open(info, "w") as entry:
                    shutil.copyfileobj(source, entry, 1024 * 1024)
            except OSError as error:
                raise _cannot_deploy([f"`{file.path}`: it cannot be read ({error.strerror or error})"]) from error
            total_bytes += info.file_size
            if total_bytes > MAX_BYTES:
                raise InvalidProject(f"the project grew past {in_mebibytes(MAX_BYTES)} while it was packed")
    return total_bytes
