"""Which files of a folder are a model."""

import pytest

from cortex.domain.errors import ModelFailed
from cortex.fetching.shape import find_model

URL = "s3://bucket/model/"


@pytest.mark.parametrize(
    ("names", "path", "taken"),
    [
        (["model.onnx"], "model.onnx", ["model.onnx"]),
        (["model.onnx", "weights.bin"], "model.onnx", ["model.onnx", "weights.bin"]),
        (["1/a.onnx", "2/b.onnx", "2/w/b.bin", "10/c.onnx"], "10/c.onnx", ["10/c.onnx"]),
        (["1/a.onnx", "2/b.onnx", "notes.txt"], "2/b.onnx", ["2/b.onnx"]),
        (["1/a.onnx", "01/b.onnx"], "1/a.onnx", ["1/a.onnx"]),
        (["1/old.onnx", "new.onnx"], "new.onnx", ["new.onnx"]),
    ],
)
def test_an_onnx_model_is_one_file_directly_or_in_the_highest_version(
    names: list[str], path: str, taken: list[str]
) -> None:
    shape = find_model("onnx", URL, names)

    assert (path, path, taken) == (shape.path, shape.file, list(shape.names))


@pytest.mark.parametrize(
    ("names", "path", "taken"),
    [
        (["saved_model.pb", "variables/variables.index"], "", ["saved_model.pb", "variables/variables.index"]),
        (["7/saved_model.pb", "9/saved_model.pb", "9/variables/v"], "9", ["9/saved_model.pb", "9/variables/v"]),
    ],
)
def test_a_tensorflow_model_is_a_folder_directly_or_the_one_of_the_highest_version(
    names: list[str], path: str, taken: list[str]
) -> None:
    shape = find_model("tensorflow", URL, names)

    assert (path, taken) == (shape.path, list(shape.names))
    assert shape.file in taken


@pytest.mark.parametrize(
    ("predictor_type", "names", "message"),
    [
        ("onnx", ["a.txt", "b/c.onnx"], f"there is no `.onnx` file in `{URL}`; found `a.txt`, `b/c.onnx`"),
        ("onnx", ["a.onnx", "b.onnx"], f"there are 2 `.onnx` files in `{URL}`: `a.onnx`, `b.onnx`"),
        ("onnx", ["1/a.onnx", "2/b.txt"], f"there is no `.onnx` file in `{URL}2/`; found `b.txt`"),
        ("onnx", ["2/a.onnx", "2/b.onnx"], f"there are 2 `.onnx` files in `{URL}2/`: `a.onnx`, `b.onnx`"),
        ("tensorflow", ["model.h5"], f"there is no `saved_model.pb` in `{URL}`; found `model.h5`"),
        (
            "tensorflow",
            [f"{number}.txt" for number in range(8)],
            f"there is no `saved_model.pb` in `{URL}`; found `0.txt`, `1.txt`, `2.txt`, `3.txt`, `4.txt` and 3 more",
        ),
    ],
)
def test_what_is_no_model_is_refused_with_what_was_found(predictor_type: str, names: list[str], message: str) -> None:
    with pytest.raises(ModelFailed) as failure:
        find_model(predictor_type, URL, names)

    assert message == failure.value.message
    assert failure.value.hint
