"""What all parts of cortex.yaml, and of a job request, have in common."""

from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """Nothing is converted, nothing unknown passes, nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def empty_if_null(value: object) -> object:
    """Read a section that is left empty as one that says nothing."""
    return {} if value is None else value


def section_at(path: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel]:
    """Give the section that a path of field names leads to; the last one on the way if that is none."""
    for part in path:
        field = model.model_fields.get(str(part))
        model = (field and as_section(field)) or model
    return model


def as_section(field: FieldInfo) -> type[BaseModel] | None:
    """Give the section that a field holds, if it is one, or a list of such; it may be `null` besides."""
    return next(
        (one for one in _within(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)), None
    )


def _within(annotation: object) -> Iterator[object]:
    yield annotation
    for inner in get_args(annotation):
        yield from _within(inner)
