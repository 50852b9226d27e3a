"""`onnx_client`: models that onnxruntime runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from cortex.predictor.model_input import by_name, to_array
from cortex.predictor.models import LocalModel, ModelsByName

_TYPES: Final = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(string)": "object",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""What numpy calls the types of tensors; a value of another type is passed as it is."""


def open_client(library: Any, models: Sequence[LocalModel]) -> "OnnxClient":
    """Load models. Raises what onnxruntime does for one that it cannot load."""
    return OnnxClient({model.name: _open_session(library, model) for model in models})


class OnnxClient:
    """Calls models."""

    def __init__(self, sessions: Mapping[str, Any]) -> None:
        """`sessions` are onnxruntime's, by the names of their models."""
        self._models = ModelsByName({name: (session, _inputs(session)) for name, session in sessions.items()})

    def predict(self, model_input: Any, model_name: str | None = None) -> list[Any]:
        """Run a model; give its outputs as onnxruntime does, a list with the value of each.

        The input is a mapping by the names of the model's inputs, or, where it has only one, its value. Lists become
        arrays of the type that the model declares. May be called from any thread. Raises TypeError or ValueError for an
        input that does not fit, ValueError for a model that is not there.
        """
        session, inputs = self._models.find(model_name)
        outputs: list[Any] = session.run(None, by_name(model_input, inputs))
        return outputs

    def get_session(self, model_name: str | None = None) -> Any:
        """Give a model's `onnxruntime.InferenceSession`. Raises ValueError for a model that is not there."""
        return self._models.find(model_name)[0]


def _open_session(library: Any, model: LocalModel) -> Any:
    options = library.SessionOptions()
    # As other libraries do: else each of several processes has a thread for each core of the machine.
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # it may be a list, for loops in loops
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0  # 0: as many as it likes
    return library.InferenceSession(str(model.path), options, providers=library.get_available_providers())


def _inputs(session: Any) -> dict[str, Callable[[Any], Any]]:
    return {declared.name: _reader(declared) for declared in session.get_inputs()}


def _reader(declared: Any) -> Callable[[Any], Any]:
    if declared.type not in _TYPES:
        return lambda value: value
    return partial(to_array, dtype=_TYPES[declared.type], shape=declared.shape)
