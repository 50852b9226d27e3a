"""The fields of cortex.yaml. This is their one definition: the JSON Schema and the messages derive from it."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from cortex.configuration.endpoint import ENDPOINT_PATTERN, MAX_CHARACTERS, normalize_endpoint
from cortex.configuration.job_options import JobOptions
from cortex.configuration.section import Section
from cortex.configuration.wording import describe_value
from cortex.domain.quantity import read_bytes, read_cores

KINDS = ("BatchAPI", "RealtimeAPI", "TrafficSplitter")
KIND_WHEN_MISSING = "RealtimeAPI"
"""The oldest configurations have no kind; everything was realtime then."""

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
MAX_NAME_CHARACTERS = 42
PREDICTOR_TYPES_NOT_YET = ("tensorflow", "onnx")
RESERVED_VARIABLE_PREFIX = "CORTEX_"
LEAST_CPU = "20m"
LEAST_MEM = "20Mi"


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        rule = "lower-case letters, digits and hyphens, start with a letter and end with a letter or a digit"
        raise ValueError(f"got {describe_value(name)}, must consist of {rule}")
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"got {len(name)} characters, must have at most {MAX_NAME_CHARACTERS}")
    return name


def _check_predictor_type(value: object) -> object:
    if value in PREDICTOR_TYPES_NOT_YET:
        raise ValueError(f"`{value}` is not supported yet; `python` is")
    return value


def _check_predictor_path(text: str) -> str:
    path = _check_project_path(text)
    if not path.endswith(".py"):
        raise ValueError(f"got {describe_value(text)}, must be a Python file, such as `predictor.py`")
    return path


def _check_python_path(text: str) -> str:
    path = _check_project_path(text)
    if not path:
        raise ValueError(
            f"got {describe_value(text)}, must be a folder inside the project; leave it out for the project"
        )
    return path


def _check_project_path(text: str) -> str:
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith(("/", "~")) or ".." in parts or "\\" in text or "\0" in text:
        rule = "relative to the folder of the configuration file and inside it, with `/` between its parts"
        raise ValueError(f"got {describe_value(text)}, must be {rule}")
    return "/".join(parts)


def _check_variable_name(name: str) -> str:
    if name.startswith(RESERVED_VARIABLE_PREFIX):
        raise ValueError(f"names that start with `{RESERVED_VARIABLE_PREFIX}` are set by Cortex itself; choose another")
    if not name or "=" in name or "\0" in name:
        raise ValueError("a variable's name must not be empty, and holds neither `=` nor a null character")
    return name


def _check_variable_value(value: str) -> str:
    if "\0" in value:  # the value stays out of the message: it may be a secret
        raise ValueError("the value of a variable must not hold a null character")
    return value


def _check_cpu(value: object) -> str | int | float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        allowed = "a number of cores, such as `1`, `0.5` or `200m`"
        raise ValueError(f"got {describe_value(value)}, must be {allowed}")  # noqa: TRY004 (pydantic reports these)
    if read_cores(value) < read_cores(LEAST_CPU):
        raise ValueError(f"got `{value}`, must be at least `{LEAST_CPU}`")
    return value


def _check_mem(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        allowed = "text with a unit, such as `512Mi`, `2Gi` or `129M`"
        raise ValueError(f"got {describe_value(value)}, must be {allowed}")  # noqa: TRY004 (pydantic reports these)
    if read_bytes(value) < read_bytes(LEAST_MEM):
        raise ValueError(f"got `{value}` ({read_bytes(value)} bytes), must be at least `{LEAST_MEM}`")
    return value


def _empty_if_null(value: object) -> object:
    return {} if value is None else value


class Predictor(Section):
    """The code that makes the predictions."""

    type: Annotated[Literal["python"], BeforeValidator(_check_predictor_type)] = Field(
        description="The language of the predictor.",
        examples=["python"],
    )
    path: Annotated[str, AfterValidator(_check_predictor_path)] = Field(
        description="The Python file with the class `PythonPredictor`, relative to the folder of this file.",
        examples=["predictor.py", "src/predictor.py"],
        json_schema_extra={"pattern": r"^[^/~\\].*\.py$"},
    )
    config: Annotated[dict[str, Any], BeforeValidator(_empty_if_null, json_schema_input_type=dict[str, Any] | None)] = (
        Field(
            default={},
            description="Whatever the predictor wants to know: `__init__` gets it, merged with the job's `config`.",
            examples=[{"model": "models/digits.onnx", "threshold": 0.5}],
        )
    )
    python_path: Annotated[str, AfterValidator(_check_python_path)] | None = Field(
        default=None,
        description="The folder that imports start from, relative to the folder of this file (the default).",
        examples=["src"],
        json_schema_extra={"pattern": r"^[^/~\\]"},
    )
    env: Annotated[
        dict[
            Annotated[str, AfterValidator(_check_variable_name)], Annotated[str, AfterValidator(_check_variable_value)]
        ],
        BeforeValidator(_empty_if_null, json_schema_input_type=dict[str, str] | None),
    ] = Field(
        default={},
        description="Environment variables of the workers. Values are text: quote numbers, `true` and `false`.",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra={"propertyNames": {"pattern": f"^(?!{RESERVED_VARIABLE_PREFIX})[^=]+$"}},
    )


class Networking(Section):
    """How the API is reached."""

    endpoint: Annotated[str, AfterValidator(normalize_endpoint)] | None = Field(
        default=None,
        description="The path of the API's URL. The default is `/` and the name of the API.",
        examples=["/image-classifier", "/vision/digits"],
        json_schema_extra={"pattern": ENDPOINT_PATTERN, "maxLength": MAX_CHARACTERS},
    )


class Compute(Section):
    """What each worker needs."""

    cpu: Annotated[str | int | float | None, PlainValidator(_check_cpu, json_schema_input_type=str | float | None)] = (
        Field(
            default="200m",
            description=f"Cores that are reserved for each worker, at least `{LEAST_CPU}`; `null` reserves none.",
            examples=[1, 0.5, "200m"],
        )
    )
    mem: Annotated[str | None, PlainValidator(_check_mem, json_schema_input_type=str | None)] = Field(
        default=None,
        description=f"Memory of each worker, with its unit, at least `{LEAST_MEM}`; `null` sets no limit.",
        examples=["512Mi", "2Gi"],
    )
    gpu: int = Field(default=0, ge=0, description="GPUs of each worker.", examples=[0, 1])

    @property
    def cpu_cores(self) -> float:
        """The cores that are reserved for each worker."""
        return 0.0 if self.cpu is None else read_cores(self.cpu)

    @property
    def mem_bytes(self) -> int | None:
        """The memory of each worker, or None where nothing was said about it."""
        return None if self.mem is None else read_bytes(self.mem)


class BatchApi(Section):
    """An API that works through large jobs with many workers, and has no worker between jobs."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="The name of the API: lower-case letters, digits and hyphens.",
        examples=["image-classifier"],
        json_schema_extra={"pattern": NAME_PATTERN, "maxLength": MAX_NAME_CHARACTERS},
    )
    kind: Literal["BatchAPI"] = Field(description="What sort of API this is.", examples=["BatchAPI"])
    predictor: Predictor = Field(
        description="The code that makes the predictions.",
        examples=[{"type": "python", "path": "predictor.py"}],
    )
    networking: Annotated[Networking, BeforeValidator(_empty_if_null, json_schema_input_type=Networking | None)] = (
        Field(default=Networking(), description="How the API is reached.", examples=[{"endpoint": "/vision/digits"}])
    )
    compute: Annotated[Compute, BeforeValidator(_empty_if_null, json_schema_input_type=Compute | None)] = Field(
        default=Compute(), description="What each worker needs.", examples=[{"cpu": 1, "mem": "2Gi"}]
    )
    job: Annotated[JobOptions, BeforeValidator(_empty_if_null, json_schema_input_type=JobOptions | None)] = Field(
        default=JobOptions(),
        description="What holds for each job that does not say otherwise; a submission has the same fields.",
        examples=[{"retries": 2, "timeout": "2h"}],
    )

    @property
    def endpoint(self) -> str:
        """The path of the API's URL, with a leading slash and without a trailing one."""
        return self.networking.endpoint or f"/{self.name}"

    @model_validator(mode="after")
    def _check_endpoint(self) -> "BatchApi":
        try:
            normalize_endpoint(self.endpoint)
        except ValueError as error:
            raise ValueError(f"the endpoint of an API is its name: {error}; set `networking.endpoint`") from error
        return self
