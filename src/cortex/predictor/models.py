"""The models of an ONNX or TensorFlow predictor, and the library that runs them.

The library is the user's, and imported by name when it is needed: nothing else here knows of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from cortex.domain.errors import InvalidPredictor

ONLY_MODEL: Final = "_cortex_default"
"""The name of the model of a predictor that has `model_path`: it is called without one."""

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model that can be loaded from this machine's disk."""

    name: str
    path: Path  # of the `.onnx` file, or of the folder with `saved_model.pb`
    signature_key: str | None = None  # which signature of a TensorFlow model is called; None: its only or usual one

    def write(self) -> dict[str, str | None]:
        """Give it as JSON has it."""
        return {"name": self.name, "path": str(self.path), "signature_key": self.signature_key}

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> "LocalModel":
        """Read what `write` gave."""
        return cls(name=written["name"], path=Path(written["path"]), signature_key=written["signature_key"])


class ModelsByName(Generic[Loaded]):
    """The models that a client has loaded."""

    def __init__(self, loaded: Mapping[str, Loaded]) -> None:
        self._loaded = loaded
        self._only = next(iter(loaded.values())) if len(loaded) == 1 else None

    def find(self, name: str | None) -> Loaded:
        """Give the model of a name; where there is only one, it need not be named. Raises ValueError."""
        if name is None and self._only is not None:
            return self._only
        found = self._loaded.get(name or "")
        if found is None or name == ONLY_MODEL:
            raise ValueError(self._explain(name))
        return found

    def _explain(self, name: str | None) -> str:
        if ONLY_MODEL in self._loaded:
            return f"there is no model `{name}`: the predictor has one by its `model_path`; leave `model_name` out"
        names = ", ".join(f"`{known}`" for known in self._loaded)
        if name is None:
            return f"`model_name` must say which model is meant: {names}"
        return f"there is no model `{name}`; there are {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What runs the models of a type of predictor."""

    module: str
    package: str  # as a requirements.txt names it
    extra: str  # of cortex
    predictor: str


LIBRARIES: Final[Mapping[str, Library]] = {
    "onnx": Library(module="onnxruntime", package="onnxruntime", extra="onnx", predictor="an `ONNXPredictor`"),
    "tensorflow": Library(
        module="tensorflow", package="tensorflow-cpu", extra="tensorflow", predictor="a `TensorFlowPredictor`"
    ),
}
"""By the type of predictor."""


def import_library(predictor_type: str) -> Any:
    """Import what a type of predictor runs its models with; None for one that needs nothing.

    Takes seconds, and starts no thread that a fork would lack. Raises InvalidPredictor where it is not installed.
    """
    library = LIBRARIES.get(predictor_type)
    if library is None:
        return None
    try:
        return import_module(library.module)
    except ModuleNotFoundError as error:
        if error.name != library.module:  # it is there, and lacks something itself: that is what to tell
            raise
        raise InvalidPredictor(
            f"{library.predictor} needs `{library.module}`, which is not installed",
            hint=f"add `{library.package}` to the project's requirements.txt; for a project without one, install"
            f" `cortex[{library.extra}]` where workers run",
        ) from error


def open_client(predictor_type: str, models: Sequence[Mapping[str, Any]]) -> Any:
    """Load models, as `LocalModel.write` gives them, and give the client of this type; None for type `python`.

    Starts threads of the library: a process that forks must not call it. Raises InvalidPredictor where the library is
    missing, and what it raises for a model that it cannot load.
    """
    library = import_library(predictor_type)
    if library is None:
        return None
    client = import_module(f"cortex.predictor.{predictor_type}_client")
    return client.open_client(library, [LocalModel.read(model) for model in models])
