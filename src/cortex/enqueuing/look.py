"""Looking at the files of a submission before there is a Job: is there one, and which ones."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Final

from cortex.domain.errors import FilesError
from cortex.domain.source import FileSource
from cortex.enqueuing.events import AllListed, Checked, Listed, Refused
from cortex.enqueuing.portions import selection
from cortex.files.address import read_address
from cortex.files.files import FileInfo, Files
from cortex.files.selection import select

_FILES_AT_ONCE: Final = 1000
_CHARACTERS_AT_ONCE: Final = 128 * 1024
_COUNTED_FILES: Final = 10_000
"""So many files are counted to say that none of them is kept: to list a large bucket twice would take minutes."""

Tell = Callable[[Checked | Refused | Listed | AllListed], None]


def check(files: Files, source: FileSource, tell: Tell) -> None:
    """Tell whether every bucket can be listed and there is a file to enqueue, or why not and what to change."""
    try:
        for path in _one_path_of_each_bucket(source):
            next(files.list(path), None)
        found = any(True for _ in select(files, selection(source)))
        tell(Checked() if found else _explain(files, source))
    except FilesError as error:
        tell(_refusal(source, error))


def _one_path_of_each_bucket(source: FileSource) -> Iterable[str]:
    """Give a path for each bucket but the first: that one is listed anyway."""
    by_bucket: dict[tuple[str, str], str] = {}
    for path in source.paths:
        address = read_address(path)
        by_bucket.setdefault((address.scheme, address.bucket), path)
    return list(by_bucket.values())[1:]


def list_all(files: Files, source: FileSource, tell: Tell) -> None:
    """Tell all files, group by group, and that these were all; or why there is none."""
    is_any = False
    try:
        for group in _groups(file for _, file in select(files, selection(source))):
            tell(Listed(urls=[file.url for file in group], sizes=[file.size_bytes for file in group]))
            is_any = True
        tell(AllListed() if is_any else _explain(files, source))
    except FilesError as error:
        tell(_refusal(source, error))


def _groups(files: Iterable[FileInfo]) -> Iterator[list[FileInfo]]:
    """Group files so that the URLs of a group are one line of a reasonable length."""
    group: list[FileInfo] = []
    length = 0
    for file in files:
        group.append(file)
        length += len(file.url)
        if len(group) == _FILES_AT_ONCE or length >= _CHARACTERS_AT_ONCE:
            yield group
            group, length = [], 0
    if group:
        yield group


def _refusal(source: FileSource, error: FilesError) -> Refused:
    return Refused(message=f"{source.kind}.s3_paths: {error.message}", hint=error.hint)


def _explain(files: Files, source: FileSource) -> Refused:
    """Say why no file is to be enqueued."""
    found = list(islice(select(files, selection(replace(source, includes=(), excludes=()))), _COUNTED_FILES))
    if not found:
        more = f", or with {len(source.paths) - 1} others" if len(source.paths) > 1 else ""
        return Refused(
            message=f"{source.kind}.s3_paths: there is no file whose URL begins with `{source.paths[0]}`{more}",
            hint="a path is a whole URL or the beginning of URLs, upper and lower case count, and folders are no files",
        )
    many = f"{len(found)} or more" if len(found) == _COUNTED_FILES else str(len(found))
    field = "includes" if source.includes else "excludes"
    return Refused(
        message=f"{source.kind}.{field}: of {many} files none is left, for example not `{found[0][1].url}`",
        hint="a glob must match the whole URL, and only `**` goes beyond a `/`: `**.jpg` is all that end in .jpg",
    )
