"""What is wrong with an API's fields, in words: pydantic's findings as messages for users."""

import re

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cortex.configuration.document import Document, Location, Problem
from cortex.configuration.section import as_section, section_at
from cortex.configuration.wording import describe_value, did_you_mean

PAST_FIELDS = {
    "api_gateway",
    "autoscaling",
    "image",
    "inf",
    "local_port",
    "model_path",
    "models",
    "monitoring",
    "processes_per_replica",
    "server_side_batching",
    "signature_key",
    "tensorflow_serving_image",
    "threads_per_process",
    "threads_per_worker",
    "tracker",
    "update_strategy",
    "workers_per_replica",
}
"""Fields of earlier releases, for any kind of API."""

_ALLOWED = {
    "string_type": "a string",
    "int_type": "an integer",
    "dict_type": "a map",
    "model_type": "a map",
    "list_type": "a list",
    "bool_type": "`true` or `false`",
}


def to_problems(error: ValidationError, model: type[BaseModel], document: Document, index: int) -> list[Problem]:
    """Say what pydantic found wrong with the API at `index` of the file, each finding with its line."""
    problems = []
    for details in error.errors(include_url=False):
        location: Location = (index, *(part for part in details["loc"] if part != "[key]"))
        text = _describe(details, model)
        problems.append(Problem(location=location, line=document.line_of(location), text=text))
    return problems


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
            return f"got {describe_value(got)}, must be at least {context['ge']}"
        case "less_than_equal":
            return f"got {describe_value(got)}, must be at most {context['le']}"
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
    if home:
        return f"unknown field here; it belongs under `{home}`{allowed}"
    if word in PAST_FIELDS:
        return f"unknown field; earlier releases knew it, this one does not{allowed}"
    return f"unknown field{did_you_mean(word, fields)}{allowed}"


def _section_with(field: str, model: type[BaseModel]) -> str | None:
    for name, info in model.model_fields.items():
        section = as_section(info)
        if section and field in section.model_fields:
            return name
    return None


def _field_description(details: ErrorDetails, model: type[BaseModel]) -> str:
    *sections, field = details["loc"]
    return section_at(sections, model).model_fields[str(field)].description or ""
