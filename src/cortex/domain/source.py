"""A dataset that lies in files: which ones, and how they become Batches."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class SourceKind(StrEnum):
    """What an Item is. The value is the section of a job request that says so."""

    FILE_PATH_LISTER = "file_path_lister"  # the URL of a file
    DELIMITED_FILES = "delimited_files"  # a line of a file, one JSON value


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """The files of a submission."""

    kind: SourceKind
    paths: Sequence[str]
    includes: Sequence[str] = ()
    excludes: Sequence[str] = ()
    batch_size: int

    def to_dict(self) -> dict[str, Any]:
        """Give the source as a plain object, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "FileSource":
        """Read what `to_dict` gave."""
        return cls(
            kind=SourceKind(plain["kind"]),
            paths=tuple(plain["paths"]),
            includes=tuple(plain["includes"]),
            excludes=tuple(plain["excludes"]),
            batch_size=plain["batch_size"],
        )
