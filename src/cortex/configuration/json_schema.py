"""The fields of cortex.yaml as a JSON Schema, with which editors check, complete and explain the file."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from cortex.configuration.schema import BatchApi

_EXAMPLE = {
    "name": "image-classifier",
    "kind": "BatchAPI",
    "predictor": {"type": "python", "path": "predictor.py"},
    "compute": {"cpu": 1},
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the whole file."""
    whole = Field(min_length=1, title="cortex.yaml", description="The APIs of a project.", examples=[[_EXAMPLE]])
    schema = TypeAdapter[list[BatchApi]](Annotated[list[BatchApi], whole]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
