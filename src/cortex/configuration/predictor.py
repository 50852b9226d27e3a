"""The section `predictor`: the code that makes the predictions, and the models that it is given."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cortex.configuration.disagreement import Findings, is_given, refuse_all
from cortex.configuration.models import ModelPath, ModelPaths, Models, check_names
from cortex.configuration.project_path import check_project_path
from cortex.configuration.section import Section, empty_if_null
from cortex.configuration.wording import describe_value
from cortex.predictor.models import LIBRARIES

RESERVED_VARIABLE_PREFIX: Final = "CORTEX_"
MOST_PROCESSES: Final = 100


def _check_predictor_path(text: str) -> str:
    path = check_project_path(text)
    if not path.endswith(".py"):
        raise ValueError(f"got {describe_value(text)}, must be a Python file, such as `predictor.py`")
    return path


def _check_python_path(text: str) -> str:
    path = check_project_path(text)
    if not path:
        raise ValueError(
            f"got {describe_value(text)}, must be a folder inside the project; leave it out for the project"
        )
    return path


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


def _check_one(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value > 1:
        raise ValueError(
            f"got {describe_value(value)}, must be 1: a RealtimeAPI may have more; the `workers` of a job are its own"
        )
    return value


class Predictor(Section):
    """The code that makes the predictions."""

    type: Literal["python", "onnx", "tensorflow"] = Field(
        description="What the predictor is: `python`, `onnx` or `tensorflow`.",
        examples=["python", "onnx"],
    )
    path: Annotated[str, AfterValidator(_check_predictor_path)] = Field(
        description="The Python file with the class `PythonPredictor`, `ONNXPredictor` or `TensorFlowPredictor`,"
        " relative to the folder of this file.",
        examples=["predictor.py", "src/predictor.py"],
        json_schema_extra={"pattern": r"^[^/~\\].*\.py$"},
    )
    config: Annotated[dict[str, Any], BeforeValidator(empty_if_null, json_schema_input_type=dict[str, Any] | None)] = (
        Field(
            default={},
            description="Whatever the predictor wants to know: `__init__` gets it, merged with the `config` of a job.",
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
        BeforeValidator(empty_if_null, json_schema_input_type=dict[str, str] | None),
    ] = Field(
        default={},
        description="Environment variables of the workers. Values are text: quote numbers, `true` and `false`.",
        examples=[{"OMP_NUM_THREADS": "1"}],
        json_schema_extra={"propertyNames": {"pattern": f"^(?!{RESERVED_VARIABLE_PREFIX})[^=]+$"}},
    )
    model_path: ModelPath | None = Field(
        default=None,
        description="The model of an `onnx` or `tensorflow` predictor: a file or folder of the project, or"
        " `s3://bucket/key`, `gs://`, `az://`, `file:///path` or a plain path.",
        examples=["models/iris.onnx", "s3://bucket/models/iris/"],
    )
    models: Annotated[
        Models | None, BeforeValidator(lambda value: value, json_schema_input_type=Models | ModelPaths | None)
    ] = Field(
        default=None,
        description="Several models instead of one, each with its name.",
        examples=[[{"name": "iris", "model_path": "models/iris.onnx"}]],
    )
    signature_key: str | None = Field(
        default=None,
        description="Which signature of the model in `model_path` is called; `tensorflow` only. Needed where it has"
        " more than one.",
        examples=["serving_default"],
    )
    processes_per_replica: int = Field(
        default=1,
        ge=1,
        le=MOST_PROCESSES,
        description="How many processes each replica of a RealtimeAPI has; `compute` is for all of them together.",
        examples=[1, 4],
    )
    threads_per_process: int = Field(
        default=1,
        ge=1,
        description="How many requests each process of a RealtimeAPI may have in `predict` at the same time.",
        examples=[1, 8],
    )

    @model_validator(mode="after")
    def _check_models(self) -> "Predictor":
        refuse_all(self._unfit_models())
        return self

    def _unfit_models(self) -> Findings:
        if self.type not in LIBRARIES:
            given = [field for field in ("model_path", "models", "signature_key") if is_given(self, field)]
            text = f"is for `onnx` and `tensorflow`; a predictor of type `{self.type}` loads its models itself"
            return [((field,), text) for field in given]
        findings = []
        if self.model_path is None and self.models is None:
            text = f"missing; a predictor of type `{self.type}` needs it, or `models`"
            findings.append((("model_path",), text))
        if self.model_path is not None and self.models is not None:
            findings.append((("models",), "`model_path` is given too; keep one of the two"))
        if self.signature_key is not None and (self.type != "tensorflow" or self.models is not None):
            text = (
                "is for `tensorflow`"
                if self.type != "tensorflow"
                else "is for `model_path`; each of `models` has its own"
            )
            findings.append((("signature_key",), text))
        return [*findings, *((("models", *path), text) for path, text in check_names(self.models or (), self.type))]


class BatchPredictor(Predictor):
    """The code that makes the predictions."""

    processes_per_replica: Annotated[int, BeforeValidator(_check_one)] = Field(
        default=1, ge=1, le=1, description="For a RealtimeAPI; a worker is one process.", examples=[1]
    )
    threads_per_process: Annotated[int, BeforeValidator(_check_one)] = Field(
        default=1, ge=1, le=1, description="For a RealtimeAPI; a worker has one batch at a time.", examples=[1]
    )
