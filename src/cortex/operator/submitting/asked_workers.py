"""How many Workers a request asks for: a number, or as many as there is room for between two numbers."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from cortex.configuration.section import Section

_MOST: Final = 2**31 - 1


class AskedWorkers(Section):
    """As many as there is room for, and fewer while others wait."""

    min: int = Field(ge=1, le=_MOST, description="So many are not given back while other jobs wait for room.")
    max: int = Field(ge=1, le=_MOST, description="So many at once where there is room.")

    @model_validator(mode="after")
    def _check_order(self) -> "AskedWorkers":
        if self.min > self.max:
            raise ValueError(f"`min` is `{self.min}`, must be at most `max`, which is `{self.max}`")
        return self

    @property
    def elastic_min(self) -> int | None:
        """The least of an elastic Job; None where it is always the same number."""
        return self.min if self.min < self.max else None


def _from_number(value: object) -> object:
    """Give the range that a number stands for; anything else as it is, unless it can be neither."""
    if isinstance(value, dict | AskedWorkers):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise PydanticCustomError("workers", 'a whole number, or such as `{"min": 2, "max": 8}`')
    if value < 1:
        raise PydanticKnownError("greater_than_equal", {"ge": 1})
    if value > _MOST:
        raise PydanticKnownError("less_than_equal", {"le": _MOST})
    return {"min": value, "max": value}


Workers = Annotated[
    AskedWorkers,
    BeforeValidator(_from_number, json_schema_input_type=Annotated[int, Field(ge=1, le=_MOST)] | AskedWorkers),
]
"""A number, or `{"min": 2, "max": 8}`."""
