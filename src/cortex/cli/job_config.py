"""The config of a job from options: `--config threshold=0.5 --config model.name=digits`."""

import json
from collections.abc import Sequence
from typing import Any

from cortex.domain.errors import InvalidSubmission

_HINT = "write `--config NAME=VALUE`; `--config model.name=digits` sets `name` in `model`"


def read_config(assignments: Sequence[str]) -> dict[str, Any]:
    """Give the object that `NAME=VALUE` assignments describe; their order does not matter.

    A value that is JSON is read as that, any other is text. Raises InvalidSubmission for what is no assignment, and
    where two of them set the same field.
    """
    config: dict[str, Any] = {}
    for assignment in assignments:
        name, has_value, text = assignment.partition("=")
        path = name.split(".")
        if not has_value or not all(path):
            raise InvalidSubmission(f"`--config {assignment}` names no field and its value", hint=_HINT)
        value = _read(text)
        for part in reversed(path):
            value = {part: value}
        _merge(config, value, assignment, ())
    return config


def _read(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, allow_nan=False)  # `1e999` is read as infinity, which JSON has no word for
    except (ValueError, RecursionError):
        return text
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _merge(config: dict[str, Any], more: dict[str, Any], assignment: str, path: tuple[str, ...]) -> None:
    for name, value in more.items():
        known = config.get(name)
        if name not in config:
            config[name] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value, assignment, (*path, name))
        else:
            field = ".".join((*path, name))
            raise InvalidSubmission(f"`--config {assignment}` sets `{field}`, which another `--config` sets too")
