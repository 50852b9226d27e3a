"""Read cortex.yaml strictly, and report everything that is wrong with it at once."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cortex.configuration.apis import KIND_WHEN_MISSING, KINDS, Api, TrafficSplitter
from cortex.configuration.document import Document, Location, Problem, read_document
from cortex.configuration.earlier_names import Modern, modernize
from cortex.configuration.endpoint import normalize_endpoint, overlap
from cortex.configuration.models import is_in_project
from cortex.configuration.predictor import Predictor
from cortex.configuration.problems import to_problems
from cortex.configuration.wording import describe_value, did_you_mean, nearest, on_one_line, shorten
from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import InvalidConfiguration

MAX_APIS = 1000


def read_configuration(text: str, file_name: str, *, project: Path | None = None) -> tuple[Api, ...]:
    """Return the APIs of a configuration, in the order of the file.

    With `project`, the folder that holds the project's files, the paths in the configuration must exist there.
    Raises `InvalidConfiguration` with one entry for each problem of the file, in the order of its lines.
    """
    document = read_document(text, file_name)
    if not isinstance(document.value, list) or not 1 <= len(document.value) <= MAX_APIS:
        raise InvalidConfiguration(
            f"{file_name}:{document.line_of(())}: {_describe_no_list(document.value)}",
            hint="start each API with `- name: …`, followed by its `kind`, such as `BatchAPI`, and its `predictor`",
        )
    apis: list[Api] = []
    problems = list(document.problems)
    known_bad = {problem.location for problem in problems}
    for index in range(len(document.value)):
        found = _read_api(document, index)
        if isinstance(found, Api):
            apis.append(found)
            problems += _find_missing_files(found, document, index, project) if project else ()
        else:
            problems += (problem for problem in found if problem.location not in known_bad)
    problems += _find_clashes(document)
    problems += _find_unfit_targets(document)
    if problems:
        problems.sort(key=lambda problem: problem.line)
        raise InvalidConfiguration("\n".join(_format(problem, document, file_name) for problem in problems))
    return tuple(apis)


def _describe_no_list(value: object) -> str:
    if value is None:
        return "the file is empty; it must be a list of APIs"
    if value == []:
        return "the list is empty; it must name at least one API"
    if isinstance(value, list):
        return f"got {len(value)} APIs, must be at most {MAX_APIS} in one file"
    return f"got {describe_value(value)}; the file must be a list of APIs"


def _read_api(document: Document, index: int) -> Api | list[Problem]:
    entry = document.value[index]
    if not isinstance(entry, dict):
        return [_problem(document, (index,), f"got {describe_value(entry)}, must be a map with the fields of an API")]
    kind, problems = _kind(entry), []
    if not isinstance(kind, str) or kind not in KINDS:
        problems.append(_problem(document, (index, "kind"), _describe_kind(kind)))
        kind = nearest(kind, KINDS) if isinstance(kind, str) else None
        if kind is None:
            return problems
        entry = {**entry, "kind": kind}
    modern = modernize(entry, kind)
    problems += (_problem(document, (index, *path), text) for path, text in modern.problems)
    try:
        api = KINDS[kind].model_validate(modern.fields)
    except ValidationError as error:
        known_bad = {problem.location for problem in problems}
        found = to_problems(error, KINDS[kind], modern, document, index)
        problems += (problem for problem in found if problem.location not in known_bad)
    return problems or api


def _kind(entry: dict[str, Any]) -> Any:
    return entry.get("kind", KIND_WHEN_MISSING)


def _describe_kind(kind: object) -> str:
    *most, last = (f"`{known}`" for known in KINDS)
    meant = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
    return f"got {describe_value(kind)}, must be {', '.join(most)} or {last}{meant}"


def _find_missing_files(api: Api, document: Document, index: int, project: Path) -> Iterator[Problem]:
    if isinstance(api, TrafficSplitter):
        return
    path, python_path = api.predictor.path, api.predictor.python_path
    if not (project / path).is_file():
        text = f"the project has no file `{path}`{_nearest_file(project / path, '*.py')}"
        yield _problem(document, (index, "predictor", "path"), text)
    if python_path is not None and not (project / python_path).is_dir():
        text = f"the project has no folder `{python_path}`"
        yield _problem(document, (index, "predictor", "python_path"), text)
    for location, model_path in _models(api.predictor):
        if is_in_project(model_path) and not (project / model_path).exists():
            text = f"the project has no file or folder `{model_path}`{_nearest_file(project / model_path, '*')}"
            yield _problem(document, (index, "predictor", *location), text)


def _models(predictor: Predictor) -> Iterator[tuple[Location, str]]:
    if predictor.model_path is not None:
        yield ("model_path",), predictor.model_path
    for number, model in enumerate(predictor.models or ()):
        yield ("models", number, "model_path"), model.model_path


def _nearest_file(missing: Path, pattern: str) -> str:
    return did_you_mean(missing.name, (found.name for found in missing.parent.glob(pattern)))


def _find_unfit_targets(document: Document) -> Iterator[Problem]:
    """Yield what a TrafficSplitter leads to that the file has, but as another kind of API."""
    entries = [entry for entry in document.value if isinstance(entry, dict)]
    kinds = {entry["name"]: _kind(entry) for entry in entries if isinstance(entry.get("name"), str)}
    for index, entry in enumerate(document.value):
        targets = entry.get("apis") if isinstance(entry, dict) and _kind(entry) == ApiKind.SPLITTER else None
        for number, target in enumerate(targets if isinstance(targets, list) else ()):
            name = target.get("name") if isinstance(target, dict) else None
            kind = kinds.get(name) if isinstance(name, str) else None
            if kind in (ApiKind.BATCH, ApiKind.SPLITTER):
                text = f"`{name}` is a {kind}; a TrafficSplitter leads to RealtimeAPIs"
                yield _problem(document, (index, "apis", number, "name"), text)


def _find_clashes(document: Document) -> Iterator[Problem]:
    """Yield the names and endpoints that more than one API of the file wants, whatever else is wrong with them."""
    identities = [_read_identity(entry) for entry in document.value]
    for index, (name, endpoint, place) in enumerate(identities):
        for earlier, (other_name, other_endpoint, _) in enumerate(identities[:index]):
            if name and name == other_name:
                line = document.line_of((earlier, "name"))
                yield _problem(document, (index, "name"), f"`{name}` is already the name of the API on line {line}")
            elif endpoint and other_endpoint and overlap(endpoint, other_endpoint):
                where = f"the API on line {document.line_of((earlier,))} has `{other_endpoint}`"
                text = f"`{endpoint}` is taken: {where}, and no endpoint may equal or lie below another"
                yield _problem(document, (index, *place), text)


def _read_identity(entry: object) -> tuple[str | None, str | None, Location]:
    """Return name and endpoint of an API that need not be valid, as far as they can be told, and the latter's place."""
    modern = modernize(entry, _kind(entry)) if isinstance(entry, dict) else Modern(fields={})
    name, networking = modern.fields.get("name"), modern.fields.get("networking")
    wanted = (networking.get("endpoint") if isinstance(networking, dict) else None) or name
    endpoint = None
    with suppress(ValueError):
        endpoint = normalize_endpoint(wanted) if isinstance(wanted, str) else None
    return name if isinstance(name, str) else None, endpoint, modern.in_file(("networking", "endpoint"))


def _problem(document: Document, location: Location, text: str) -> Problem:
    return Problem(location=location, line=document.line_of(location), text=text)


def _format(problem: Problem, document: Document, file_name: str) -> str:
    place, *path = problem.location or ("",)
    entry = document.value[place] if isinstance(place, int) else None
    fields = entry if isinstance(entry, dict) else {}
    name, kind = fields.get("name"), _kind(fields)
    identity = f"API number {place + 1}" if isinstance(place, int) else ""
    if isinstance(name, str) and name:
        identity = shorten(name)
    if fields and isinstance(kind, str):
        identity += f" ({kind})"
    field = ".".join(shorten(str(part)) for part in path)
    parts = (f"{file_name}:{problem.line}", identity, field, problem.text)
    return on_one_line(": ".join(part for part in parts if part))
