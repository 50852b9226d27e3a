"""Read cortex.yaml strictly, and report everything that is wrong with it at once."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from cortex.configuration.document import Document, Location, Problem, read_document
from cortex.configuration.endpoint import normalize_endpoint, overlap
from cortex.configuration.problems import to_problems
from cortex.configuration.schema import KIND_WHEN_MISSING, KINDS, BatchApi
from cortex.configuration.wording import describe_value, did_you_mean, on_one_line, shorten
from cortex.domain.errors import InvalidConfiguration

MAX_APIS = 1000


def read_configuration(text: str, file_name: str, *, project: Path | None = None) -> tuple[BatchApi, ...]:
    """Return the APIs of a configuration, in the order of the file.

    With `project`, the folder that holds the project's files, the paths in the configuration must exist there.
    Raises `InvalidConfiguration` with one entry for each problem of the file, in the order of its lines.
    """
    document = read_document(text, file_name)
    if not isinstance(document.value, list) or not 1 <= len(document.value) <= MAX_APIS:
        raise InvalidConfiguration(
            f"{file_name}:{document.line_of(())}: {_describe_no_list(document.value)}",
            hint="start each API with `- name: …`, followed by `kind: BatchAPI` and its `predictor`",
        )
    apis: list[BatchApi] = []
    problems = list(document.problems)
    known_bad = {problem.location for problem in problems}
    for index in range(len(document.value)):
        found = _read_api(document, index)
        if isinstance(found, BatchApi):
            apis.append(found)
            problems += _find_missing_files(found, document, index, project) if project else ()
        else:
            problems += (problem for problem in found if problem.location not in known_bad)
    problems += _find_clashes(document)
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


def _read_api(document: Document, index: int) -> BatchApi | list[Problem]:
    entry = document.value[index]
    if not isinstance(entry, dict):
        return [_problem(document, (index,), f"got {describe_value(entry)}, must be a map with the fields of an API")]
    kind = entry.get("kind", KIND_WHEN_MISSING)
    if kind in KINDS and kind != "BatchAPI":
        found = f"`{kind}` is" if "kind" in entry else f"missing, which means `{KIND_WHEN_MISSING}`:"
        return [_problem(document, (index, "kind"), f"{found} not supported yet; `BatchAPI` is")]
    try:
        return BatchApi.model_validate(entry)
    except ValidationError as error:
        return to_problems(error, BatchApi, document, index)


def _find_missing_files(api: BatchApi, document: Document, index: int, project: Path) -> Iterator[Problem]:
    path, python_path = api.predictor.path, api.predictor.python_path
    if not (project / path).is_file():
        siblings = (found.name for found in (project / path).parent.glob("*.py"))
        nearest = did_you_mean(Path(path).name, siblings)
        text = f"the project has no file `{path}`{nearest}"
        yield _problem(document, (index, "predictor", "path"), text)
    if python_path is not None and not (project / python_path).is_dir():
        text = f"the project has no folder `{python_path}`"
        yield _problem(document, (index, "predictor", "python_path"), text)


def _find_clashes(document: Document) -> Iterator[Problem]:
    """Yield the names and endpoints that more than one API of the file wants, whatever else is wrong with them."""
    identities = [_read_identity(entry) for entry in document.value]
    for index, (name, endpoint) in enumerate(identities):
        for earlier, (other_name, other_endpoint) in enumerate(identities[:index]):
            if name and name == other_name:
                line = document.line_of((earlier, "name"))
                yield _problem(document, (index, "name"), f"`{name}` is already the name of the API on line {line}")
            elif endpoint and other_endpoint and overlap(endpoint, other_endpoint):
                where = f"the API on line {document.line_of((earlier,))} has `{other_endpoint}`"
                text = f"`{endpoint}` is taken: {where}, and no endpoint may equal or lie below another"
                yield _problem(document, (index, "networking", "endpoint"), text)


def _read_identity(entry: object) -> tuple[str | None, str | None]:
    """Return name and endpoint of an API that need not be valid, as far as they can be told."""
    fields = entry if isinstance(entry, dict) else {}
    name, networking = fields.get("name"), fields.get("networking")
    wanted = (networking.get("endpoint") if isinstance(networking, dict) else None) or name
    endpoint = None
    with suppress(ValueError):
        endpoint = normalize_endpoint(wanted) if isinstance(wanted, str) else None
    return name if isinstance(name, str) else None, endpoint


def _problem(document: Document, location: Location, text: str) -> Problem:
    return Problem(location=location, line=document.line_of(location), text=text)


def _format(problem: Problem, document: Document, file_name: str) -> str:
    place, *path = problem.location or ("",)
    entry = document.value[place] if isinstance(place, int) else None
    fields = entry if isinstance(entry, dict) else {}
    name, kind = fields.get("name"), fields.get("kind", KIND_WHEN_MISSING)
    identity = f"API number {place + 1}" if isinstance(place, int) else ""
    if isinstance(name, str) and name:
        identity = shorten(name)
    if fields and isinstance(kind, str):
        identity += f" ({kind})"
    field = ".".join(shorten(str(part)) for part in path)
    parts = (f"{file_name}:{problem.line}", identity, field, problem.text)
    return on_one_line(": ".join(part for part in parts if part))
