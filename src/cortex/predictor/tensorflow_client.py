"""`tensorflow_client`: SavedModels that TensorFlow runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from cortex.predictor.model_input import by_name, to_array
from cortex.predictor.models import LocalModel, ModelsByName

_USUAL_KEYS: Final = ("predict", "serving_default")


def open_client(library: Any, models: Sequence[LocalModel]) -> "TensorFlowClient":
    """Load models. Raises ValueError for a signature that is not there, and what TensorFlow does."""
    return TensorFlowClient(library, {model.name: _Model(library, model) for model in models})


class TensorFlowClient:
    """Calls models."""

    def __init__(self, library: Any, models: Mapping[str, "_Model"]) -> None:
        self._constant: Callable[[Any], Any] = library.constant
        self._models = ModelsByName(models)

    def predict(self, model_input: Any, model_name: str | None = None) -> dict[str, Any]:
        """Call a model's signature; give its outputs, a numpy array for each name.

        The input is a mapping by the names of the signature's inputs, or, where it has only one, its value. Lists
        become arrays of the type that the signature declares. May be called from any thread. Raises TypeError or
        ValueError for an input that does not fit, ValueError for a model that is not there.
        """
        model = self._models.find(model_name)
        values = by_name(model_input, model.inputs)
        outputs = model.signature(**{name: self._constant(value) for name, value in values.items()})
        return {name: output.numpy() for name, output in outputs.items()}


class _Model:
    """A SavedModel, and the signature of it that is called."""

    def __init__(self, library: Any, model: LocalModel) -> None:
        self._loaded = library.saved_model.load(str(model.path))  # kept: the signature does not keep its variables
        signatures = self._loaded.signatures
        self.signature = signatures[_choose(model, list(signatures))]
        _, declared = self.signature.structured_input_signature
        self.inputs: dict[str, Callable[[Any], Any]] = {name: _reader(spec) for name, spec in declared.items()}


def _choose(model: LocalModel, keys: Sequence[str]) -> str:
    if model.signature_key is not None:
        if model.signature_key in keys:
            return model.signature_key
        raise ValueError(f"`{model.path}` has no signature `{model.signature_key}`; {_describe(keys)}")
    if len(keys) == 1:
        return keys[0]
    for usual in _USUAL_KEYS:
        if usual in keys:
            return usual
    raise ValueError(f"set `signature_key`: `{model.path}` has no signature that is the usual one; {_describe(keys)}")


def _describe(keys: Sequence[str]) -> str:
    return f"its signatures: {', '.join(f'`{key}`' for key in keys) or 'none'}"


def _reader(spec: Any) -> Callable[[Any], Any]:
    shape = spec.shape.as_list() if spec.shape.rank is not None else None
    return partial(to_array, dtype=spec.dtype.as_numpy_dtype, shape=shape)
