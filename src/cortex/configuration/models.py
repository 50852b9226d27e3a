"""The models of an `onnx` or `tensorflow` predictor: where each lies, and what it is called."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from cortex.configuration.disagreement import Findings
from cortex.configuration.project_path import check_project_path
from cortex.configuration.section import Section
from cortex.configuration.wording import describe_value, shorten
from cortex.files.address import read_address
from cortex.predictor.models import ONLY_MODEL

_NAME_PATTERN: Final = r"^[A-Za-z0-9_-]+$"


def is_in_project(model_path: str) -> bool:
    """Say whether a model lies in the project, and not in a bucket or elsewhere on the operator's machine."""
    return not model_path.startswith("/") and "://" not in model_path


def _check_model_path(text: str) -> str:
    if is_in_project(text):
        path = check_project_path(text)
        if not path:
            raise ValueError(f"got {describe_value(text)}, must be a file or a folder, such as `models/iris.onnx`")
        return path
    address = read_address(text)
    if not address.key.strip("/"):
        raise ValueError(f"`{shorten(text)}` is all there is, must be a file or a folder in it")
    return text


def _check_name(name: str) -> str:
    if not re.fullmatch(_NAME_PATTERN, name):
        raise ValueError(f"got {describe_value(name)}, must consist of letters, digits, `_` and `-`")
    if name == ONLY_MODEL:
        raise ValueError(f"got {describe_value(name)}, which is reserved; choose another")
    return name


ModelPath = Annotated[str, AfterValidator(_check_model_path)]


class Model(Section):
    """One of several models."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="What `predict` of the client calls it by: letters, digits, `_` and `-`.",
        examples=["iris"],
        json_schema_extra={"pattern": _NAME_PATTERN},
    )
    model_path: ModelPath = Field(
        description="Where it lies, as in `model_path` above.",
        examples=["models/iris.onnx", "s3://bucket/models/iris/"],
    )
    signature_key: str | None = Field(
        default=None,
        description="Which of its signatures is called; `tensorflow` only. Needed where it has more than one.",
        examples=["serving_default"],
    )


Models = Annotated[list[Model], Field(min_length=1)]


class ModelPaths(Section):
    """Several models, as release 0.22 wrote them."""

    paths: Models = Field(description="The models.", examples=[[{"name": "iris", "model_path": "models/iris"}]])
    signature_key: str | None = Field(
        default=None, description="The signature of each that names none.", examples=["serving_default"]
    )


def check_names(models: Sequence[Model], predictor_type: str) -> Findings:
    """Say which entries of `models` cannot be beside each other, or not with this type of predictor."""
    findings: list[tuple[tuple[str | int, ...], str]] = []
    seen: dict[str, int] = {}
    for index, model in enumerate(models):
        if seen.setdefault(model.name, index) != index:
            findings.append(((index, "name"), f"`{model.name}` is the name of an earlier one already"))
        if model.signature_key is not None and predictor_type != "tensorflow":
            findings.append(((index, "signature_key"), "is for `tensorflow`"))
    return findings
