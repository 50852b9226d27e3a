"""What an API is called."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from cortex.configuration.wording import describe_value

NAME_PATTERN: Final = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME_CHARACTERS: Final = 42


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        rule = "lower-case letters, digits and hyphens, start with a letter and end with a letter or a digit"
        raise ValueError(f"got {describe_value(name)}, must consist of {rule}")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"got {len(name)} characters, must have at most {MAX_NAME_CHARACTERS}")
    return name


ApiName = Annotated[str, AfterValidator(_check_name)]


def name_field(description: str) -> Any:
    """Give the field of a section that holds the name of an API."""
    return Field(
        description=description,
        examples=["image-classifier"],
        json_schema_extra={"pattern": NAME_PATTERN, "maxLength": MAX_NAME_CHARACTERS},
    )
