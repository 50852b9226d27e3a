"""Spans of time in a configuration or a job request: as they were written, or read as seconds."""

from typing import Annotated, Final

from pydantic import Field, PlainValidator

from cortex.configuration.wording import describe_value
from cortex.domain.duration import read_duration

_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$"


def _check_delay(value: object) -> object:
    seconds_of(value)
    return value


def _check_optional_delay(value: object) -> object:
    return None if value is None else _check_delay(value)


def _check_limit(value: object) -> object:
    if value is not None and seconds_of(value) == 0:
        raise ValueError(f"got `{value}`, must be more than 0; leave it out for no limit")
    return value


def _read_limit(value: object) -> float | None:
    return None if _check_limit(value) is None else seconds_of(value)


def seconds_of(value: object) -> float:
    """Say how many seconds a duration has that may be anything. Raises ValueError, which says what is allowed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        allowed = "a number of seconds, or text such as `500ms`, `30s`, `5m`, `2h` or `1d`"
        raise ValueError(f"got {describe_value(value)}, must be {allowed}")  # noqa: TRY004 (pydantic reports these)
    return read_duration(value)


_Text = Annotated[str, Field(pattern=_PATTERN)]
_Delay = _Text | Annotated[float, Field(ge=0)]
_Limit = _Text | Annotated[float, Field(gt=0)]

# As they were written:
Delay = Annotated[str | int | float, PlainValidator(_check_delay, json_schema_input_type=_Delay)]
OptionalDelay = Annotated[
    str | int | float | None, PlainValidator(_check_optional_delay, json_schema_input_type=_Delay | None)
]
Limit = Annotated[str | int | float | None, PlainValidator(_check_limit, json_schema_input_type=_Limit | None)]

# In seconds:
Seconds = Annotated[float, PlainValidator(seconds_of, json_schema_input_type=_Delay)]
LimitSeconds = Annotated[float | None, PlainValidator(_read_limit, json_schema_input_type=_Limit | None)]
