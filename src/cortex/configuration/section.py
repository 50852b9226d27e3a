"""What all parts of cortex.yaml, and of a job request, have in common."""

from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Nothing is converted, nothing unknown passes, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def section_at(path: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """Give the section that a path of field names leads to; the last one on the way if that is none."""
    for part in path:
        field = model.model_fields.get(str(part))
        model = (field and as_section(field)) or model
    return model


def as_section(field: FieldInfo) -> type[BaseModel] | None:
    """Give the section that a field holds, if it is one; it may be `null` besides."""
    choices = [field.annotation, *get_args(field.annotation)]
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)), None)
