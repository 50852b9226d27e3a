"""The clients that predictors call their models by: ONNX with onnxruntime itself, TensorFlow with a stand-in."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cortex.domain.errors import InvalidPredictor
from cortex.predictor.model_input import to_array
from cortex.predictor.models import ONLY_MODEL, LocalModel, open_client
from tiny_models import write_join, write_scale


@pytest.fixture(autouse=True)
def _no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "1")  # as every Worker has it


def open_onnx(**models: Path) -> Any:
    return open_client("onnx", [LocalModel(name=name, path=path).write() for name, path in models.items()])


@pytest.mark.parametrize(
    ("model_input", "expected"),
    [
        ([1, 2, 3, 4], [[2, 4, 6, 8]]),
        ([[1, 2, 3, 4], [0, 0, 0, 1]], [[2, 4, 6, 8], [0, 0, 0, 2]]),
        ({"x": [[1, 2, 3, 4]]}, [[2, 4, 6, 8]]),
        (np.array([1, 2, 3, 4], np.float64), [[2, 4, 6, 8]]),
        (np.ones((2, 4), np.float32), [[2, 2, 2, 2], [2, 2, 2, 2]]),
    ],
)
def test_a_model_with_one_input_takes_lists_arrays_and_mappings(
    tmp_path: Path, model_input: Any, expected: list[Any]
) -> None:
    client = open_onnx(**{ONLY_MODEL: write_scale(tmp_path / "m.onnx")})

    (output,) = client.predict(model_input)

    assert expected == output.tolist()
    assert np.float32 == output.dtype


def test_a_model_with_several_inputs_takes_a_mapping_of_numbers_and_texts(tmp_path: Path) -> None:
    client = open_onnx(**{ONLY_MODEL: write_join(tmp_path / "m.onnx")})

    number, words = client.predict({"number": 7, "words": ["a", "b"]})

    assert (7, ["a", "b"]) == (number.item(), words.tolist())


@pytest.mark.parametrize(
    ("model_input", "message"),
    [
        ([1, 2, 3], r"input `x`: must be any x 4, got an array of shape \(3,\)"),
        (["a", "b", "c", "d"], "input `x`: must be float32, got <U1"),
        ({"y": [1, 2, 3, 4]}, "the model's inputs are `x`; got `y`"),
        ([[1, 2], [3]], "input `x`: "),
    ],
)
def test_an_input_that_does_not_fit_is_refused_by_its_name(tmp_path: Path, model_input: Any, message: str) -> None:
    client = open_onnx(**{ONLY_MODEL: write_scale(tmp_path / "m.onnx")})

    with pytest.raises(ValueError, match=message):
        client.predict(model_input)


def test_one_value_for_several_inputs_is_refused(tmp_path: Path) -> None:
    client = open_onnx(**{ONLY_MODEL: write_join(tmp_path / "m.onnx")})

    with pytest.raises(TypeError, match="has 2 inputs, and needs a mapping with `number`, `words`"):
        client.predict([1])


def test_models_are_called_by_their_names(tmp_path: Path) -> None:
    client = open_onnx(double=write_scale(tmp_path / "2.onnx", 2), triple=write_scale(tmp_path / "3.onnx", 3))

    assert [[3, 3, 3, 3]] == client.predict([1, 1, 1, 1], "triple")[0].tolist()
    assert [[2, 2, 2, 2]] == client.predict([1, 1, 1, 1], model_name="double")[0].tolist()
    assert ["x"] == [declared.name for declared in client.get_session("double").get_inputs()]
    with pytest.raises(ValueError, match="`model_name` must say which model is meant: `double`, `triple`"):
        client.predict([1, 1, 1, 1])
    with pytest.raises(ValueError, match="there is no model `quadruple`; there are `double`, `triple`"):
        client.predict([1, 1, 1, 1], "quadruple")


def test_the_only_one_of_named_models_need_not_be_named(tmp_path: Path) -> None:
    client = open_onnx(double=write_scale(tmp_path / "2.onnx"))

    assert client.predict([1, 1, 1, 1])[0].tolist() == client.predict([1, 1, 1, 1], "double")[0].tolist()


def test_the_model_of_a_model_path_has_no_name(tmp_path: Path) -> None:
    client = open_onnx(**{ONLY_MODEL: write_scale(tmp_path / "m.onnx")})

    with pytest.raises(ValueError, match=r"there is no model `iris`: .* leave `model_name` out"):
        client.predict([1, 1, 1, 1], "iris")


@pytest.mark.parametrize(("told", "expected"), [("1", 1), ("3, 2", 3), ("", 0), ("many", 0)])
def test_a_session_has_as_many_threads_as_other_libraries_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", told)

    session = open_onnx(**{ONLY_MODEL: write_scale(tmp_path / "m.onnx")}).get_session()

    assert expected == session.get_session_options().intra_op_num_threads


@pytest.mark.parametrize(
    ("given", "declared", "expected"),
    [
        ((7,), [None, None], (1, 7)),
        ((3, 8, 8), ["n", 3, "height", "width"], (1, 3, 8, 8)),
        ((4,), [None, 4], (1, 4)),
        ((8,), [None, 4], (2, 4)),
        ((5,), [None, 1], (5, 1)),
        ((2, 3), [6], (6,)),
    ],
)
def test_what_lacks_the_first_dimension_is_one_of_a_batch_and_all_else_is_reshaped(
    given: tuple[int, ...], declared: list[Any], expected: tuple[int, ...]
) -> None:
    assert expected == to_array(np.zeros(given), np.float32, declared).shape


def test_what_may_have_several_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be any x 3 x any x any, got an array of shape \(8, 8, 3\)"):
        to_array(np.zeros((8, 8, 3)), np.float32, [None, 3, None, None])


@pytest.mark.parametrize(
    ("predictor_type", "module", "package", "extra"),
    [("onnx", "onnxruntime", "onnxruntime", "onnx"), ("tensorflow", "tensorflow", "tensorflow-cpu", "tensorflow")],
)
def test_a_missing_library_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, predictor_type: str, module: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(InvalidPredictor) as failure:
        open_client(predictor_type, [])

    assert f"needs `{module}`, which is not installed" in failure.value.message
    assert f"add `{package}` to the project's requirements.txt" in str(failure.value.hint)
    assert f"`cortex[{extra}]`" in str(failure.value.hint)


def test_a_python_predictor_has_no_client() -> None:
    assert open_client("python", []) is None


# TensorFlow


class Tensor:
    def __init__(self, value: Any) -> None:
        self.value = value

    def numpy(self) -> Any:
        return self.value


class Signature:
    """Doubles `x`, whole numbers in rows of two, and says which signature it is."""

    def __init__(self, key: str) -> None:
        shape = SimpleNamespace(rank=2, as_list=lambda: [None, 2])
        spec = SimpleNamespace(shape=shape, dtype=SimpleNamespace(as_numpy_dtype=np.int64))
        self.structured_input_signature = ((), {"x": spec})
        self.key = key

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": Tensor(x.value * 2), "key": Tensor(np.array(self.key))}


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the signatures of every model; what a test adds, they have."""
    keys: list[str] = []
    load = lambda _: SimpleNamespace(signatures={key: Signature(key) for key in keys})  # noqa: E731
    library = SimpleNamespace(constant=Tensor, saved_model=SimpleNamespace(load=load))
    monkeypatch.setitem(sys.modules, "tensorflow", library)  # type: ignore[arg-type]
    return keys


def open_tensorflow(signature_key: str | None = None) -> Any:
    model = LocalModel(name=ONLY_MODEL, path=Path("/model"), signature_key=signature_key)
    return open_client("tensorflow", [model.write()])


def test_a_signature_gives_arrays_by_name(signatures: list[str]) -> None:
    signatures.append("serving_default")

    answer = open_tensorflow().predict({"x": [1.0, 2.0]})

    assert [[2, 4]] == answer["y"].tolist()
    assert np.int64 == answer["y"].dtype


@pytest.mark.parametrize(
    ("keys", "asked", "called"),
    [
        (["my"], None, "my"),
        (["serving_default", "predict"], None, "predict"),
        (["other", "serving_default"], None, "serving_default"),
        (["other", "serving_default"], "other", "other"),
    ],
)
def test_the_signature_that_is_asked_for_or_the_only_or_the_usual_one_is_called(
    signatures: list[str], keys: list[str], asked: str | None, called: str
) -> None:
    signatures += keys

    assert called == open_tensorflow(asked).predict([1, 2])["key"].item()


@pytest.mark.parametrize(
    ("keys", "asked", "message"),
    [
        (["a", "b"], None, "set `signature_key`: .*; its signatures: `a`, `b`"),
        (["a", "b"], "c", "has no signature `c`; its signatures: `a`, `b`"),
        ([], None, "its signatures: none"),
    ],
)
def test_a_signature_that_is_not_there_is_refused_with_those_that_are(
    signatures: list[str], keys: list[str], asked: str | None, message: str
) -> None:
    signatures += keys

    with pytest.raises(ValueError, match=message):
        open_tensorflow(asked)
