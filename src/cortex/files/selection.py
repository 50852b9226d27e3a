"""Which files a dataset takes, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cortex.files.address import check_paths, read_address
from cortex.files.files import FileInfo, Files
from cortex.files.globs import MAX_PATTERNS_CHARACTERS, Globs

__all__ = ["Selection", "check_globs", "check_paths", "select"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What a submission says about its files."""

    paths: tuple[str, ...]  # prefixes of URLs
    includes: tuple[str, ...] = ()  # globs; none of them means all files
    excludes: tuple[str, ...] = ()


def select(
    files: Files, selection: Selection, *, after: tuple[int, str] | None = None
) -> Iterator[tuple[int, FileInfo]]:
    """Give each file of a dataset once, with the index of the path that it was found by.

    What was given last, index and URL, is where to go on: with it as `after` only the rest is given. A file is left
    out where an earlier path is a prefix of its URL; so nothing has to be remembered. Raises FilesError, and
    ValueError for paths and globs that the checks do not let through.
    """
    includes, excludes = Globs(selection.includes), Globs(selection.excludes)
    first, position = after or (0, None)
    beginnings = tuple(map(beginning, selection.paths))
    for index in range(first, len(selection.paths)):
        earlier = beginnings[:index]
        for file in files.list(selection.paths[index], after=position):
            if file.url.startswith(earlier):
                continue
            if (not selection.includes or includes.match(file.url)) and not excludes.match(file.url):
                yield index, file
        position = None


def beginning(path: str) -> str:
    """Give what the URLs of a path's files begin with: `s3://data` is a bucket, and has nothing of `s3://data-2`."""
    address = read_address(path)
    return f"{path}/" if path == f"{address.scheme}://{address.bucket}" else path


def check_globs(patterns: Sequence[str]) -> None:
    """Check the syntax of globs.

    Raises ValueError with one line for each that is wrong; each line begins with its index: `[2]: …`.
    """
    problems = [f"[{index}]: {problem}" for index, pattern in enumerate(patterns) if (problem := _problem(pattern))]
    total = sum(map(len, patterns))
    if total > MAX_PATTERNS_CHARACTERS and not problems:
        problems = [f"have {total} characters together, must have at most {MAX_PATTERNS_CHARACTERS}"]
    if problems:
        raise ValueError("\n".join(problems))


def _problem(pattern: str) -> str | None:
    try:
        Globs([pattern])
    except ValueError as error:
        return f"`{pattern[:100]}` is not a glob: {error}"
    return None
