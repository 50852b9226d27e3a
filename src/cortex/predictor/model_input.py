"""What a predictor passes to a model, brought into the shape that the model declares."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def by_name(model_input: Any, inputs: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """Give the arrays for a model: each input's own value made ready by what stands behind its name.

    The value of a model's only input need not stand in a mapping. Raises TypeError or ValueError, which name what is
    missing.
    """
    if not isinstance(model_input, Mapping) and len(inputs) == 1:
        model_input = {next(iter(inputs)): model_input}
    if not isinstance(model_input, Mapping):
        raise TypeError(f"the model has {len(inputs)} inputs, and needs a mapping with {_names(inputs)}")
    if model_input.keys() != inputs.keys():
        raise ValueError(f"the model's inputs are {_names(inputs)}; got {_names(model_input)}")
    values: dict[str, Any] = {}
    for name, ready in inputs.items():
        try:
            values[name] = ready(model_input[name])
        except (TypeError, ValueError) as error:
            raise ValueError(f"the model's input `{name}`: {error}") from error
    return values


def to_array(value: Any, dtype: Any, shape: Sequence[object] | None) -> Any:
    """Give a numpy array of this type, and of the declared shape, in which what is no number may be of any length.

    What has another number of dimensions is reshaped: so a list of four numbers is one row for a model that takes
    rows of four. Raises ValueError where that is not possible.
    """
    numpy = import_module("numpy")
    array = numpy.asarray(value)
    if array.dtype != dtype:
        if array.dtype.kind in "OSU" and numpy.dtype(dtype).kind not in "OSU":
            raise ValueError(f"must be {numpy.dtype(dtype).name}, got {array.dtype}")
        array = array.astype(dtype)
    if shape is None or array.ndim == len(shape):
        return array
    return _reshape(array, shape)


def _reshape(array: Any, shape: Sequence[object]) -> Any:
    lengths = [length if isinstance(length, int) and length >= 0 else None for length in shape]
    one_of_many = (1,) * (len(shape) - array.ndim) + array.shape
    if len(one_of_many) == len(shape) and all(map(_fits, one_of_many, lengths)):
        return array.reshape(one_of_many)
    open_ones = lengths.count(None)
    wanted = [(-1 if open_ones == 1 else 1) if length is None else length for length in lengths]
    try:
        return array.reshape(wanted)
    except ValueError as error:
        declared = " x ".join("any" if length is None else str(length) for length in lengths) or "a single number"
        raise ValueError(f"must be {declared}, got an array of shape {array.shape}") from error


def _fits(length: int, declared: int | None) -> bool:
    return declared is None or length == declared


def _names(names: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
