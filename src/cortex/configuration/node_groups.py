"""The field `node_groups`: on which machines of a cluster an API runs."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from cortex.configuration.wording import describe_value

NODE_GROUP_PATTERN: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"


def _check_node_groups(names: list[str] | None) -> list[str] | None:
    for name in names or []:
        if not re.fullmatch(NODE_GROUP_PATTERN, name):
            rule = "1 to 63 letters, digits, `-`, `_` and `.`, and start and end with a letter or a digit"
            raise ValueError(f"got {describe_value(name)}, each must consist of {rule}")
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"got {describe_value(names)}, each must be named once")
    return names or None


NodeGroups = Annotated[list[str] | None, AfterValidator(_check_node_groups)]


def node_groups_field() -> Any:
    """Give the field of an API that holds the node groups that it may run on."""
    return Field(
        default=None,
        description="The groups of nodes that may run it, with `--engine ray`; without any, every node may.",
        examples=[["gpu"], ["spot", "on-demand"]],
    )
