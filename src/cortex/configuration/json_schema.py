"""The fields of cortex.yaml as a JSON Schema, with which editors check, complete and explain the file."""

from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter

from cortex.configuration.apis import Api, RealtimeApi
from cortex.configuration.earlier_names import RENAMED
from cortex.configuration.section import section_at
from cortex.predictor.models import LIBRARIES

_EXAMPLE: Final = {
    "name": "image-classifier",
    "kind": "BatchAPI",
    "predictor": {"type": "python", "path": "predictor.py"},
    "compute": {"cpu": 1},
}

_NULL: Final = {"type": "null"}
_NO_SIGNATURE: Final = {"properties": {"signature_key": _NULL}}
_UNSIGNED_MODELS: Final = {
    "items": _NO_SIGNATURE,
    "properties": {"paths": {"items": _NO_SIGNATURE}, "signature_key": _NULL},
}
_ONE_MODEL: Final = {"required": ["model_path"], "properties": {"model_path": {"type": "string"}, "models": _NULL}}
_SEVERAL_MODELS: Final = {
    "required": ["models"],
    "properties": {"models": {"type": ["array", "object"]}, "model_path": _NULL, "signature_key": _NULL},
}
_MODEL_RULES: Final = [
    {
        "if": {"properties": {"type": {"enum": list(LIBRARIES)}}},
        "then": {"oneOf": [_ONE_MODEL, _SEVERAL_MODELS]},
        "else": {"properties": dict.fromkeys(("model_path", "models", "signature_key"), _NULL)},
    },
    {
        "if": {"properties": {"type": {"const": "onnx"}}},
        "then": {"properties": {"signature_key": _NULL, "models": _UNSIGNED_MODELS}},
    },
]
"""Which of these fields a predictor has goes by its type."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the whole file."""
    whole = Field(min_length=1, title="cortex.yaml", description="The APIs of a project.", examples=[[_EXAMPLE]])
    schema = TypeAdapter[list[Api]](Annotated[list[Api], whole]).json_schema()
    sections = schema["$defs"]
    for name in ("Predictor", "BatchPredictor"):
        sections[name]["allOf"] = _MODEL_RULES
    for before, now in RENAMED.items():
        *home, earlier = map(str, before)
        field = sections[_section(now[:-1])]["properties"][now[-1]]
        description = f"The earlier name of `{'.'.join(map(str, now))}`."
        renamed = {**field, "description": description, "deprecated": True}
        sections[_section(tuple(home))]["properties"][earlier] = renamed
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _section(path: tuple[str | int, ...]) -> str:
    """Name the section of a RealtimeAPI that a path of field names leads to."""
    return section_at(path, RealtimeApi).__name__
