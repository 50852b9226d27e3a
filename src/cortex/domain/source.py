"""A dataset that lies in files: which ones, and how they become Batches."""

from dataclasses import dataclass
from enum import StrEnum


class SourceKind(StrEnum):
    """What an Item is. The value is the section of a job request that says so."""

    FILE_PATH_LISTER = "file_path_lister"  # the URL of a file
    DELIMITED_FILES = "delimited_files"  # a line of a file, one JSON value


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """The files of a submission."""

    kind: SourceKind
    paths: tuple[str, ...]
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    batch_size: int
