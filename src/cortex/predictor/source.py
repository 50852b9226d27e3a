"""Check the predictor's source when it is deployed, without importing what it needs."""

import ast
import warnings
from collections.abc import Iterator
from inspect import Parameter
from typing import Final

from cortex.domain.errors import InvalidPredictor
from cortex.predictor.table import PREDICTOR_TYPES, PredictorType, Signature, judge, nearest

MAX_SOURCE_BYTES: Final = 1024 * 1024
"""Python holds its one lock while it parses: 20 MB of code would keep whoever checks it from all else for a minute."""


def check_source(source: str | bytes, path: str, predictor_type: str = "python") -> None:
    """Check the source of a predictor of this type without running it.

    Raises `InvalidPredictor` with one entry for each problem, with its line and what to write instead. A class that
    is imported, assigned, decorated or derived from another is judged by what is there: the rest shows in the worker.
    """
    if len(source) > MAX_SOURCE_BYTES:
        raise InvalidPredictor(f"{path}: is larger than 1 MiB; keep data in files of their own and read them")
    module, wanted = _parse(source, path), PREDICTOR_TYPES[predictor_type]
    classes = {node.name: node for node in _statements(module.body) if isinstance(node, ast.ClassDef)}
    predictor = classes.get(wanted.class_name)
    is_bound = _is_bound(wanted.class_name, module.body)
    if predictor is not None:
        problems = sorted(_check_class(predictor, wanted, is_whole=not is_bound))
    elif is_bound or _is_bound("*", module.body):
        problems = []
    else:
        problems = [_describe_missing_class(wanted.class_name, classes)]
    if problems:
        raise InvalidPredictor("\n".join(f"{path}:{line}: {text}" for line, text in problems))


def _parse(source: str | bytes, path: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is deprecated still runs
            module = ast.parse(source, path)
            compile(module, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise InvalidPredictor(f"{path}:{error.lineno or 1}: this is not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidPredictor(f"{path}:1: this is not valid Python: {error or 'it is nested too deeply'}") from error
    return module


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what runs in the same scope, also inside of `if`, `try` and the like, in the order of the text."""
    waiting = body[::-1]
    while waiting:
        statement = waiting.pop()
        yield statement
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        inside: list[ast.stmt] = []
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.stmt):
                inside.append(child)
            elif isinstance(child, ast.ExceptHandler | ast.match_case):
                inside += child.body
        waiting += inside[::-1]


def _is_bound(name: str, body: list[ast.stmt]) -> bool:
    """Say whether a scope may get this name from anything but a class that stands in it."""
    for statement in _statements(body):
        match statement:
            case ast.Import() | ast.ImportFrom():
                if any((alias.asname or alias.name) == name for alias in statement.names):
                    return True
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if statement.name == name:
                    return True
            case ast.ClassDef():
                pass
            case _:
                expressions = (child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.expr))
                nodes = (node for expression in expressions for node in ast.walk(expression))
                if any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in nodes):
                    return True
    return False


def _describe_missing_class(name: str, classes: dict[str, ast.ClassDef]) -> tuple[int, str]:
    found = nearest(name, classes)
    if found is None:
        return 1, f"the class `{name}` is missing; write `class {name}:`"
    return classes[found].lineno, f"the class `{name}` is missing; rename `{found}` to `{name}`"


def _check_class(node: ast.ClassDef, wanted: PredictorType, *, is_whole: bool) -> Iterator[tuple[int, str]]:
    is_plain = is_whole and not node.keywords and not node.decorator_list and all(map(_is_object, node.bases))
    functions = {
        item.name: item for item in _statements(node.body) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for method in wanted.methods:
        function = functions.get(method.name)
        if function is not None:
            signature = _read_signature(function)
            for problem in judge(method, signature) if signature else ():
                yield function.lineno, f"{node.name}.{method.name}: {problem}"
        elif method.is_required and is_plain and not _is_bound(method.name, node.body):
            found = nearest(method.name, functions)
            advice = f"rename `{found}` to `{method.name}`" if found else f"write `{method.example}`"
            yield node.lineno, f"{node.name}: the method `{method.name}` is missing; {advice}"


def _is_object(base: ast.expr) -> bool:
    return isinstance(base, ast.Name) and base.id == "object"


def _read_signature(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature | None:
    """Return the signature, or None where a decorator may have changed it."""
    decorators = {node.id if isinstance(node, ast.Name) else "" for node in function.decorator_list}
    if decorators - {"staticmethod", "classmethod"}:
        return None
    kinds = [
        (function.args.posonlyargs, Parameter.POSITIONAL_ONLY),
        (function.args.args, Parameter.POSITIONAL_OR_KEYWORD),
        (function.args.kwonlyargs, Parameter.KEYWORD_ONLY),
    ]
    return Signature(
        parameters=tuple(Parameter(argument.arg, kind) for arguments, kind in kinds for argument in arguments),
        is_async=isinstance(function, ast.AsyncFunctionDef),
        is_generator=_yields(function),
        is_static=bool(decorators),
    )


def _yields(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether this function is a generator, whatever the functions inside of it are."""
    waiting: list[ast.AST] = [*function.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False
