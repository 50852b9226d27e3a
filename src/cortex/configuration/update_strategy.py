"""The section `update_strategy`: how the replicas of a RealtimeAPI are replaced by those of its next version."""

import re
from typing import Annotated, Final

from pydantic import Field, PlainValidator, model_validator

from cortex.configuration.disagreement import refuse_all
from cortex.configuration.section import Section
from cortex.configuration.wording import describe_value

_PERCENT: Final = re.compile(r"[0-9]{1,3}%")
_MOST: Final = 2**31 - 1


def _check_amount(value: object) -> object:
    is_share = isinstance(value, str) and _PERCENT.fullmatch(value) is not None and int(value[:-1]) <= 100
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST
    if is_share or is_count:
        return value
    raise ValueError(f"got {describe_value(value)}, must be a number of replicas, or a share of them (`0%` to `100%`)")


_Amount = Annotated[
    int | str,
    PlainValidator(
        _check_amount,
        json_schema_input_type=Annotated[int, Field(ge=0, le=_MOST)]
        | Annotated[str, Field(pattern=r"^(0{0,2}[0-9]|0?[1-9][0-9]|100)%$")],
    ),
]


class UpdateStrategy(Section):
    """How replicas are replaced by those of a new version."""

    max_surge: _Amount = Field(
        default="25%",
        description="How many replicas there may be beyond those that are wanted, or which share of them.",
        examples=["25%", 1],
    )
    max_unavailable: _Amount = Field(
        default="25%",
        description="How many of those that are wanted may be missing, or which share of them.",
        examples=["25%", 0],
    )

    @model_validator(mode="after")
    def _check_room(self) -> "UpdateStrategy":
        if _is_zero(self.max_surge) and _is_zero(self.max_unavailable):
            text = f"got {describe_value(self.max_unavailable)}, must not be 0 where `max_surge` is 0 too"
            refuse_all([(("max_unavailable",), f"{text}: no replica could be replaced")])
        return self


def _is_zero(amount: int | str) -> bool:
    return int(str(amount).removesuffix("%")) == 0
