"""Which files of a folder are a model, by their names alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cortex.domain.errors import ModelFailed

_SHOWN_FILES: Final = 5
SAVED_MODEL: Final = "saved_model.pb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model among the files of a folder."""

    names: Sequence[str]  # of its files, below the folder
    path: str  # what is loaded: the name of a file of these, or of the folder they lie in; empty for the whole folder
    file: str  # one of the names that must be readable


def find_model(predictor_type: str, url: str, names: Sequence[str]) -> Shape:
    """Find the model in a folder, directly or in the one with the highest integer for its name.

    Raises ModelFailed, which says what was found, where there is none, or more than one.
    """
    find, needed = _KINDS[predictor_type]
    versions = {name.partition("/")[0] for name in names if "/" in name and name.partition("/")[0].isdecimal()}
    own = [name for name in names if name.partition("/")[0] not in versions]
    if (shape := find(url, own, "")) is not None:
        return shape
    if versions:
        highest = max(versions, key=lambda version: (int(version), version)) + "/"
        shape = find(url + highest, [name for name in names if name.startswith(highest)], highest)
        if shape is not None:
            return shape
        url, names = url + highest, [name.removeprefix(highest) for name in names if name.startswith(highest)]
    raise ModelFailed(f"there is {needed} in `{url}`; found {_describe(names)}", hint=hint_for(predictor_type))


def check_file(predictor_type: str, url: str) -> None:
    """Raise ModelFailed where a single file cannot be such a model."""
    if predictor_type != "onnx" or not url.endswith(".onnx"):
        raise ModelFailed(f"`{url}` is a file that is no such model", hint=hint_for(predictor_type))


def hint_for(predictor_type: str) -> str:
    """Say what a model of this type looks like."""
    if predictor_type == "onnx":
        return (
            "the path of an ONNX model is that of the `.onnx` file, of a folder with exactly one, or of a folder of"
            " such folders with integers for their names, of which the highest is taken"
        )
    return (
        f"the path of a TensorFlow model is that of the folder with its `{SAVED_MODEL}`, or of a folder of such"
        " folders with integers for their names, of which the highest is taken"
    )


def _find_onnx(url: str, names: Sequence[str], folder: str) -> Shape | None:
    found = [name for name in names if name.endswith(".onnx") and "/" not in name.removeprefix(folder)]
    if len(found) > 1:
        shown = _describe([name.removeprefix(folder) for name in found])
        raise ModelFailed(
            f"there are {len(found)} `.onnx` files in `{url}`: {shown}",
            hint="let the path name one of them, or leave one in the folder",
        )
    return Shape(names=names, path=found[0], file=found[0]) if found else None


def _find_saved_model(_: str, names: Sequence[str], folder: str) -> Shape | None:
    file = f"{folder}{SAVED_MODEL}"
    return Shape(names=names, path=folder.rstrip("/"), file=file) if file in names else None


_Find = Callable[[str, Sequence[str], str], Shape | None]

_KINDS: Final[Mapping[str, tuple[_Find, str]]] = {
    "onnx": (_find_onnx, "no `.onnx` file"),
    "tensorflow": (_find_saved_model, f"no `{SAVED_MODEL}`"),
}


def _describe(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN_FILES])
    more = len(names) - _SHOWN_FILES
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"
