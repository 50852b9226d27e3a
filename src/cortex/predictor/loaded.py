"""Load the user's class in a worker, construct it, and call it."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from types import FunctionType
from typing import Any, Final

from cortex.domain.errors import InvalidPredictor
from cortex.predictor.table import PREDICTOR_TYPES, Method, Signature, judge

MODULE_NAME = "cortex_predictor"

_OF_REQUESTS: Final = ("payload", "query_params", "headers")


def load(path: str, predictor_type: str = "python") -> type:
    """Import the file of a predictor of this type and return its class, checked.

    Raises `InvalidPredictor` for a class that is missing or has a wrong signature. What the file itself raises when
    it is imported passes unchanged.
    """
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path)
    if spec is None or spec.loader is None:
        raise InvalidPredictor(f"`{path}` is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module  # before it runs: pickle and dataclasses look up the module of a class
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[MODULE_NAME]
        raise
    wanted = PREDICTOR_TYPES[predictor_type]
    name = wanted.class_name
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        found = f"the class `{name}` is missing" if cls is None else f"`{name}` is not a class"
        raise InvalidPredictor(f"{path}: {found}; write `class {name}:`")
    problems = [f"{path}: {name}.{method.name}: {text}" for method in wanted.methods for text in _judge(cls, method)]
    if problems:
        raise InvalidPredictor("\n".join(problems))
    return cls


def _judge(cls: type, method: Method) -> Iterator[str]:
    found = inspect.getattr_static(cls, method.name, None)
    if found is None or found is getattr(object, method.name, None):
        if method.is_required:
            yield f"is missing; write `{method.example}`"
        return
    try:
        parameters = tuple(_parameters(getattr(cls, method.name)).values())
    except (TypeError, ValueError):
        yield f"does not tell its arguments; write `{method.example}`"
        return
    signature = Signature(
        parameters=parameters,
        is_async=inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found),
        is_generator=inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found),
        is_static=isinstance(found, staticmethod | classmethod),
    )
    yield from judge(method, signature)


class LoadedPredictor:
    """A predictor that is ready: its model is loaded, and how to call it is decided.

    `predict(payload, batch_id)` is for Batches; what only requests have is None there. For requests there are
    `answer(payload, query_params, headers)` and, where the class has it, `post_predict` of the same with the response
    before them; `names` says which of these three the class looks at in either, so that the others may be None.
    """

    __slots__ = ("answer", "has_on_job_complete", "instance", "names", "on_job_complete", "post_predict", "predict")

    def __init__(self, instance: Any) -> None:
        hook = getattr(instance, "on_job_complete", None)
        self.instance = instance
        self.predict: Callable[[Any, str], Any] = _choose_call(instance)
        self.answer: Callable[[Any, Any, Any], Any] = _pass_what_is_named(instance, "predict", _OF_REQUESTS)
        self.post_predict: Callable[[Any, Any, Any, Any], Any] | None = None
        named = {*_parameters(type(instance).predict)}
        if getattr(type(instance), "post_predict", None) is not None:
            self.post_predict = _pass_what_is_named(instance, "post_predict", ("response", *_OF_REQUESTS))
            named |= _parameters(type(instance).post_predict).keys()
        self.names: Sequence[str] = [name for name in _OF_REQUESTS if name in named]
        self.has_on_job_complete: bool = hook is not None
        self.on_job_complete: Callable[[], Any] = hook or _do_nothing


def construct(
    cls: type, *, config: dict[str, Any], job_spec: dict[str, Any] | None, client: Any = None
) -> LoadedPredictor:
    """Construct the predictor with what its `__init__` names. What that raises passes unchanged.

    `client` is what its type has to call models with.
    """
    available = {"config": config, "job_spec": job_spec, "onnx_client": client, "tensorflow_client": client}
    named = _parameters(cls.__init__)  # type: ignore[misc] # of this very class, not of a subclass
    return LoadedPredictor(cls(**{name: value for name, value in available.items() if name in named}))


def _choose_call(instance: Any) -> Callable[[Any, str], Any]:
    """Decide once which arguments `predict` gets of payload and batch id: this is called for every batch.

    What only requests have (`query_params`, `headers`) is None.
    """
    predict: Callable[..., Any] = instance.predict
    named = _parameters(type(instance).predict)
    of_requests = dict.fromkeys({"query_params", "headers"} & named.keys())
    if of_requests:
        predict = partial(predict, **of_requests)
    match "payload" in named, "batch_id" in named:
        case True, True:
            return lambda payload, batch_id: predict(payload=payload, batch_id=batch_id)
        case True, False:
            return lambda payload, _: predict(payload=payload)
        case False, True:
            return lambda _, batch_id: predict(batch_id=batch_id)
        case _:
            return lambda _payload, _batch_id: predict()


def _pass_what_is_named(instance: Any, method: str, available: Sequence[str]) -> Callable[..., Any]:
    """Give a function of all that is available, in this order, that calls a method with what it names of that.

    The id of a batch is None: a request has none.
    """
    call: Callable[..., Any] = getattr(instance, method)
    named = _parameters(getattr(type(instance), method))
    if "batch_id" in named:
        call = partial(call, batch_id=None)
    passed = [(name, at) for at, name in enumerate(available) if name in named]
    return lambda *values: call(**{name: values[at] for name, at in passed})


def _parameters(method: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return _parameters_of(method) if isinstance(method, FunctionType) else inspect.signature(method).parameters


@cache  # who loads the class looks at them first: a Worker that is forked after that need not
def _parameters_of(method: FunctionType) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(method).parameters


def _do_nothing() -> None: ...
