"""What the user's class must look like: one table, by which its source and the class itself are judged."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What a method of the predictor may name; only what it names is passed, by name."""

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    is_required: bool
    example: str


_CALLED: Final = (
    Method(
        name="predict",
        required=("self",),
        optional=("payload", "batch_id", "query_params", "headers"),
        is_required=True,
        example="def predict(self, payload)",
    ),
    Method(
        name="post_predict",
        required=("self",),
        optional=("response", "payload", "query_params", "headers"),
        is_required=False,
        example="def post_predict(self, response)",
    ),
    Method(
        name="on_job_complete",
        required=("self",),
        optional=(),
        is_required=False,
        example="def on_job_complete(self)",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorType:
    """What the class is called, and what it may have."""

    class_name: str
    methods: tuple[Method, ...]


def _type(class_name: str, *clients: str) -> PredictorType:
    init = Method(
        name="__init__",
        required=("self", *clients, "config"),
        optional=("job_spec",),
        is_required=True,
        example=f"def __init__({', '.join(('self', *clients, 'config'))})",
    )
    return PredictorType(class_name=class_name, methods=(init, *_CALLED))


PREDICTOR_TYPES: Final[Mapping[str, PredictorType]] = {
    "python": _type("PythonPredictor"),
    "onnx": _type("ONNXPredictor", "onnx_client"),
    "tensorflow": _type("TensorFlowPredictor", "tensorflow_client"),
}
"""By the name that the configuration has for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A method as it was found."""

    parameters: tuple[Parameter, ...]
    is_async: bool
    is_generator: bool
    is_static: bool
    """Whether it is a static method or a class method."""


def judge(method: Method, found: Signature) -> Iterator[str]:
    """Yield what is wrong with a method, each time with what to write instead."""
    write = f"write `{method.example}`"
    if found.is_async:
        yield f"must not be `async`, since nobody awaits it; {write}"
    if found.is_generator:
        yield "must not `yield`, since its body would never run; build a list and return it"
    if found.is_static:
        yield f"must not be a static method or a class method; {write}"
        return
    named = [p for p in found.parameters if p.kind not in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}]
    if not named or named[0].name != "self" or named[0].kind is Parameter.KEYWORD_ONLY:
        yield f"its first argument must be `self`; {write}"
        return
    names = {parameter.name for parameter in named}
    for name in method.required:
        if name not in names:
            yield f"must have the argument `{name}`; {write}"
    allowed = method.required + method.optional
    for parameter in named[1:]:
        if parameter.name not in allowed:
            hint = f"{did_you_mean(parameter.name, allowed[1:])} (allowed: {', '.join(allowed)})"
            yield f"nobody passes the argument `{parameter.name}`{hint}"
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            yield f"arguments are passed by name, so `{parameter.name}` must not stand before a `/`; {write}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant."""
    by_lower_case = {other.lower(): other for other in known}
    found = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean `x`?", or nothing where no word is near."""
    found = nearest(word, known)
    return f"; did you mean `{found}`?" if found else ""
