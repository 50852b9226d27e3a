"""List the files of a submission that lie here, as an operator would.

A module of its own, because the readers of object stores take longer to import than most commands to run.
"""

from pathlib import Path

from cortex.clients.local_files import LocalFile, Upload, absolute, common_root, is_local, make_upload
from cortex.domain.errors import InvalidSubmission
from cortex.domain.source import FileSource
from cortex.files.places import AllFiles
from cortex.files.selection import Selection, check_globs, check_paths, select
from cortex.storage.uploads import MAX_FILES


def list_files(source: FileSource) -> tuple[Upload, str]:
    """Give the local files of a source as an upload, and the folder that their names are relative to.

    Raises InvalidSubmission, also where there is nothing to upload, and FilesError.
    """
    paths = tuple(absolute(path) for path in source.paths if is_local(path))
    _check(paths, source)
    root = common_root(paths)
    selection = Selection(paths=paths, includes=tuple(source.includes), excludes=tuple(source.excludes))
    files = [
        LocalFile(
            name=file.url.removeprefix(root), path=Path(file.url), size_bytes=file.size_bytes, version=file.version
        )
        for _, file in select(AllFiles(), selection)
    ]
    if not files:
        shown = ", ".join(f"`{path}`" for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        raise InvalidSubmission(
            f"there is no file at {shown}"
            + (" that --include and --exclude let through" if _has_filters(source) else ""),
            hint="a path is looked for on this machine; `file:///path` is one on the operator's",
        )
    if len(files) > MAX_FILES:
        raise InvalidSubmission(
            f"{len(files)} files would have to be uploaded; it must be at most {MAX_FILES}",
            hint="submit them in several jobs, or put them where the operator sees them, such as s3://",
        )
    return make_upload(files), root


def _check(paths: tuple[str, ...], source: FileSource) -> None:
    problems = []
    for option, check, values in (
        ("path", check_paths, paths),
        ("--include", check_globs, source.includes),
        ("--exclude", check_globs, source.excludes),
    ):
        try:
            check(values)
        except ValueError as error:
            problems += [f"{option} {line}" for line in str(error).splitlines()]
    if problems:
        raise InvalidSubmission("\n".join(problems))


def _has_filters(source: FileSource) -> bool:
    return bool(source.includes or source.excludes)
