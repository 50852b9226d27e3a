"""What is wrong with an API's fields, in words: pydantic's findings as messages for users."""

import re

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cortex.configuration.apis import KINDS
from cortex.configuration.disagreement import Disagreement, Findings
from cortex.configuration.document import Document, Location, Problem
from cortex.configuration.earlier_names import Modern
from cortex.configuration.section import as_section, section_at
from cortex.configuration.wording import describe_value, did_you_mean

PAST_FIELDS = {
    "api_gateway": "the operator itself answers requests now",
    "image": "name what the predictor needs in `requirements.txt`",
    "inf": "workers and replicas have `cpu`, `mem` and `gpu`",
    "local_port": "all APIs have the operator's port",
    "monitoring": "predictions are not watched; `post_predict` can count them",
    "server_side_batching": "requests are not joined; with `threads_per_process` the predictor can do it",
    "tensorflow_serving_image": "name what the predictor needs in `requirements.txt`",
    "threads_per_worker": "of a RealtimeAPI it is `predictor.threads_per_process` now",
    "tracker": "predictions are not watched; `post_predict` can count them",
    "workers_per_replica": "of a RealtimeAPI it is `predictor.processes_per_replica` now",
}
"""Fields of earlier releases, for any kind of API, and what there is instead."""

_ALLOWED = {
    "string_type": "a string",
    "int_type": "an integer",
    "dict_type": "a map",
    "model_type": "a map",
    "list_type": "a list",
    "bool_type": "`true` or `false`",
    "float_type": "a number",
}


def to_problems(
    error: ValidationError, model: type[BaseModel], modern: Modern, document: Document, index: int
) -> list[Problem]:
    """Say what pydantic found wrong with the API at `index` of the file, each finding with its line."""
    problems = []
    for details in error.errors(include_url=False):
        path: Location = tuple(part for part in details["loc"] if part != "[key]")
        for inner, text in _findings(details, model):
            location = (index, *modern.in_file((*path, *inner)))
            problems.append(Problem(location=location, line=document.line_of(location), text=text))
    return problems


def _findings(details: ErrorDetails, model: type[BaseModel]) -> Findings:
    error = details.get("ctx", {}).get("error")
    return error.findings if isinstance(error, Disagreement) else [((), _describe(details, model))]


def _describe(details: ErrorDetails, model: type[BaseModel]) -> str:
    got, context = details["input"], details.get("ctx", {})
    match details["type"]:
        case "extra_forbidden":
            return _describe_unknown_field(details, model)
        case "missing":
            return f"missing; it is required. {_field_description(details, model)}"
        case "literal_error":
            allowed = str(context["expected"]).replace("'", "`")
            nearest = did_you_mean(got, re.findall("`(.*?)`", allowed)) if isinstance(got, str) else ""
            return f"got {describe_value(got)}, must be {allowed}{nearest}"
        case "greater_than_equal":
            return f"got {describe_value(got)}, must be at least {context['ge']:g}"
        case "less_than_equal":
            return f"got {describe_value(got)}, must be at most {context['le']}"
        case "greater_than":
            return f"got {describe_value(got)}, must be more than {context['gt']:g}"
        case "less_than":
            return f"got {describe_value(got)}, must be less than {context['lt']:g}"
        case "too_short":
            return "got an empty list, must have at least one entry"
        case "value_error":
            return str(context["error"])
        case found if found in _ALLOWED:
            quote = " (quote it)" if found == "string_type" and isinstance(got, bool | int | float) else ""
            return f"got {describe_value(got)}, must be {_ALLOWED[found]}{quote}"
        case _:
            return f"got {describe_value(got)}: {details['msg']}"


def _describe_unknown_field(details: ErrorDetails, model: type[BaseModel]) -> str:
    *sections, field = details["loc"]
    word = str(field)
    fields = section_at(sections, model).model_fields
    allowed = f" (allowed: {', '.join(sorted(fields))})"
    home = _section_with(word, model)
    if home and home not in sections:
        return f"unknown field here; it belongs under `{home}`{allowed}"
    if others := _kinds_with([str(part) for part in sections], word, model):
        return f"unknown field for this kind of API; a {' or a '.join(others)} has it{allowed}"
    if word in PAST_FIELDS:
        return f"unknown field, which earlier releases knew: {PAST_FIELDS[word]}{allowed}"
    return f"unknown field{did_you_mean(word, fields)}{allowed}"


def _section_with(field: str, model: type[BaseModel]) -> str | None:
    for name, info in model.model_fields.items():
        section = as_section(info)
        if section and field in section.model_fields:
            return name
    return None


def _kinds_with(sections: list[str], field: str, model: type[BaseModel]) -> list[str]:
    """Name the other kinds of APIs that know this field at this place."""
    found = []
    for kind, other in KINDS.items():
        section: type[BaseModel] | None = other
        for name in sections:
            info = section.model_fields.get(name) if section else None
            section = as_section(info) if info else None
        if other is not model and section and field in section.model_fields:
            found.append(kind)
    return found


def _field_description(details: ErrorDetails, model: type[BaseModel]) -> str:
    *sections, field = details["loc"]
    return section_at(sections, model).model_fields[str(field)].description or ""
