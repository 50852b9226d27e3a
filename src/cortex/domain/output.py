"""Where a Job's results are written besides, and how."""

from dataclasses import dataclass
from enum import StrEnum


class OutputFormat(StrEnum):
    """How rows are written. The value is what users write, and the ending of the files' names."""

    JSON_LINES = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The `results` of a submission."""

    path: str  # a folder, as users write it: `s3://bucket/prefix`, `file:///path`, or a plain path
    format: OutputFormat = OutputFormat.JSON_LINES
    include_input: bool = False  # join each row with the Item that it is of

    def folder(self, job_id: str) -> str:
        """Give the folder of one Job, so that no two Jobs write to the same place."""
        return f"{self.path.rstrip('/')}/{job_id}"
