"""What a job may ask for besides workers, dataset and config: in its submission, and as defaults in cortex.yaml.

This is the one definition of these fields. Durations and limits are kept as they were written.
"""

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PlainValidator, model_validator

from cortex.configuration.durations import Delay, Limit, OptionalDelay
from cortex.configuration.section import Section
from cortex.configuration.wording import describe_value, shorten
from cortex.domain.duration import read_duration
from cortex.files.address import read_address

MAX_ATTEMPTS: Final = 1000
_MAX_NUMBER: Final = 2**31 - 1

_PERCENT: Final = re.compile(r"(?P<number>[0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_PERCENT_PATTERN: Final = r"^[0-9]{1,3}(\.[0-9]{1,9})?%$"
_GLOB: Final = re.compile(r"[*?\[{]")


def from_shorthand(retries: object) -> object:
    """Give the object that a number of retries stands for; anything else as it is."""
    if isinstance(retries, int) and not isinstance(retries, bool) and 0 <= retries < MAX_ATTEMPTS:
        return {"attempts": retries + 1}
    return retries


def _check_retries(value: object) -> object:
    full = from_shorthand(value)
    if full is None or isinstance(full, dict | BaseModel):
        return full
    allowed = f"a number of further attempts (at most {MAX_ATTEMPTS - 1}), or `attempts`, `backoff` and so on"
    raise ValueError(f"got {describe_value(value)}, must be {allowed}")


def _check_max_failures(value: object) -> object:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    is_count = isinstance(value, int) and not isinstance(value, bool)
    if value is None or (match and float(match["number"]) <= 100) or (is_count and 0 <= value <= _MAX_NUMBER):  # type: ignore[operator]
        return value
    allowed = "a number of batches (`0` for none), or a share of all of them (`0%` to `100%`)"
    raise ValueError(f"got {describe_value(value)}, must be {allowed}")


def _check_exception_name(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        allowed = "the name of an exception, such as `ValueError` or `mymodule.Hopeless`"
        raise ValueError(f"got {describe_value(name)}, must be {allowed}")
    return name


def _check_folder(path: str) -> str:
    address = read_address(path)
    if glob := _GLOB.search(path):
        raise ValueError(f"`{shorten(path)}` holds `{glob[0]}`, must be one folder: results know no globs")
    if address.scheme == "file" and not address.key.strip("/"):
        raise ValueError(f"`{path}` is the root of the file system, must be a folder in it")
    return path


class Retries(Section):
    """How often `predict` is tried with a batch, and how long it waits in between."""

    attempts: int = Field(
        ge=1, le=MAX_ATTEMPTS, description="How often a batch is tried, the first time included.", examples=[3]
    )
    backoff: Delay = Field(
        default="1s",
        description="How long it waits for its second attempt; doubled for each further one.",
        examples=["2s", 0.5],
    )
    max_backoff: OptionalDelay = Field(
        default=None,
        description="The longest that it waits; `null` is a minute, or `backoff` where that is longer.",
        examples=["1m", 60],
    )
    no_retry: list[Annotated[str, AfterValidator(_check_exception_name)]] = Field(
        default=[],
        description="Exceptions that another attempt would not help, by name; what is derived from them, too.",
        examples=[["ValueError", "mymodule.Hopeless"]],
    )

    @model_validator(mode="after")
    def _check_order(self) -> "Retries":
        if self.max_backoff is not None and read_duration(self.backoff) > read_duration(self.max_backoff):
            raise ValueError(
                f"`backoff` is `{self.backoff}`, must be at most `max_backoff`, which is `{self.max_backoff}`"
            )
        return self


class Results(Section):
    """Where results are written besides: into a folder of each job's own, in input order."""

    path: Annotated[str, AfterValidator(_check_folder)] = Field(
        description="In which folder: `s3://bucket/prefix`, `gs://`, `az://`, `file:///path` or a plain path.",
        examples=["s3://bucket/out", "/data/out"],
    )
    format: Literal["jsonl", "csv", "parquet"] = Field(
        default="jsonl",
        description="How rows are written: `jsonl`, `csv` or `parquet`.",
        examples=["jsonl", "parquet"],
    )
    include_input: bool = Field(
        default=False, description="Whether each row is written with the item that it is of.", examples=[True]
    )


class JobOptions(Section):
    """What becomes of a job when something fails or takes long, and where its results go."""

    retries: Annotated[
        Retries | None,
        BeforeValidator(
            _check_retries, json_schema_input_type=Annotated[int, Field(ge=0, lt=MAX_ATTEMPTS)] | Retries | None
        ),
    ] = Field(
        default=None,
        description="How often a batch that fails is tried again, or the fields below.",
        examples=[2, {"attempts": 3, "backoff": "2s"}],
    )
    batch_timeout: Limit = Field(
        default=None,
        description="How long one call of `predict` may take; then its worker is killed, and the attempt has failed.",
        examples=["30s", 30],
    )
    timeout: Limit = Field(
        default=None,
        description="How long a job may take from its submission on; then it is stopped.",
        examples=["2h"],
    )
    max_failures: Annotated[
        int | str | None,
        PlainValidator(
            _check_max_failures,
            json_schema_input_type=Annotated[int, Field(ge=0, le=_MAX_NUMBER)]
            | Annotated[str, Field(pattern=_PERCENT_PATTERN)]
            | None,
        ),
    ] = Field(
        default=None,
        description="More failed batches than this, or than this share of all, stop a job.",
        examples=[10, "5%"],
    )
    on_failed_batch: Literal["fail", "isolate"] | None = Field(
        default="fail",
        description="What becomes of a failed batch: all of it has failed (`fail`), or only the items at fault"
        " (`isolate`).",
        examples=["isolate"],
    )
    results: Results | None = Field(
        default=None,
        description="Where results are written besides.",
        examples=[{"path": "s3://bucket/out", "format": "jsonl"}],
    )
