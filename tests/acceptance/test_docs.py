"""The documents are true: their commands do what they show, and their tables are what the code says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from shell import User
from transcript import File, parts, shows, stand_ins, steady

from cortex.clients.facts import SERVING_TEXTS
from cortex.configuration import read_configuration
from cortex.domain.errors import (
    Conflict,
    CortexError,
    DataDamaged,
    InvalidRequest,
    Overloaded,
    PredictFailed,
    StorageFailed,
)
from cortex.domain.job import MOVES, JobStatus
from cortex.web.errors import http_status

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENTS = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))}
SCHEMA = json.loads((DOCS / "cortex.schema.json").read_text())

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_commands_of_a_document_do_what_it_shows(name: str, user: User) -> None:
    real: dict[str, str] = {}

    for part in parts(DOCUMENTS[name]):
        if isinstance(part, File):
            user.write(part.name, part.text)
            continue
        command = part.command
        for shown, meant in real.items():
            command = command.replace(shown, meant)
        written = user.shell(command)
        assert shows(part.output, written), f"$ {part.command}\n{steady(part.output)}\n--- but it was:\n{written}"
        real |= zip(stand_ins(part.output), stand_ins(written), strict=False)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_of_a_document_is_checked(name: str) -> None:
    for language, text in _BLOCK.findall(DOCUMENTS[name]):
        assert language in {"console", "json", "yaml", "python"}, text
        if language == "json":
            for value in text.splitlines() if text.startswith('"') else [text]:
                json.loads(value)
        if language == "python":
            compile(text, name, "exec")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_of_a_document_lead_somewhere(name: str) -> None:
    assert [] == [link for link in _LINK.findall(DOCUMENTS[name]) if not (DOCS / link).exists()]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_configurations_of_a_document_are_valid_but_for_the_one_with_the_mistake(name: str) -> None:
    texts = [text for language, text in _BLOCK.findall(DOCUMENTS[name]) if language == "yaml"]

    for text in texts:
        if "typ: python" in text:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(yaml.safe_load(text), SCHEMA)
        else:
            jsonschema.validate(yaml.safe_load(text), SCHEMA)
            read_configuration(text, "cortex.yaml")


@pytest.mark.parametrize("api", SCHEMA["items"]["anyOf"], ids=lambda api: api["$ref"].rpartition("/")[2])
def test_the_fields_of_cortex_yaml_are_those_of_the_schema(api: dict[str, str]) -> None:
    expected = ["| field | meaning | default |", "|---|---|---|", *fields(api)]

    assert "\n".join([*expected, ""]) in DOCUMENTS["cortex-yaml.md"], "\n".join(expected)


def test_the_errors_are_those_of_the_code() -> None:
    kinds = [kind for kind in every_error(CortexError) if http_status(kind()) != 500 and not kind.__subclasses__()]
    # Of the kinds that have kinds of their own, four are used themselves; of those of status 500, two are told.
    told = (InvalidRequest, Conflict, StorageFailed, DataDamaged, PredictFailed, Overloaded, *kinds)
    rows = [f"| {http_status(kind())} | `{kind.code}` | {kind().message} |" for kind in told]

    expected = ["| status | kind | what it means |", "|---|---|---|", *sorted(rows, key=lambda row: row[:6])]
    assert "\n".join(expected) in DOCUMENTS["http-api.md"], "\n".join(expected)


def every_error(kind: type[CortexError]) -> Iterator[type[CortexError]]:
    for one in kind.__subclasses__():
        yield one
        yield from every_error(one)


def test_the_statuses_are_those_of_the_code() -> None:
    of_jobs, of_apis = DOCUMENTS["statuses.md"].split("## Of a RealtimeAPI")

    assert [status_row(status) for status in JobStatus] == [[*row[:2], row[-1]] for row in status_rows(of_jobs)]
    assert SERVING_TEXTS == {row[0].strip("| `"): row[1] for row in status_rows(of_apis)}


def status_rows(document: str) -> list[list[str]]:
    """Give the cells of the lines that begin with a status."""
    return [line.split(" | ") for line in document.splitlines() if line.startswith("| `status_")]


def status_row(status: JobStatus) -> list[str]:
    """Give the code, the words and what may come next of a status, as its line in the table shows them."""
    following = [each.text for each in JobStatus if each in MOVES[status]]
    return [f"| `{status.value}`", status.text, ", ".join(following) + " |" if following else "nothing: it is final |"]


def fields(reference: dict[str, Any], path: str = "") -> Iterator[str]:
    """Give the lines of the table of fields."""
    section = SCHEMA["$defs"][reference["$ref"].rpartition("/")[2]]
    for name, field in section["properties"].items():
        if field.get("deprecated"):
            continue
        choices = [field, *field.get("anyOf", ())]
        inner, below = next(filter(None, map(inner_section, choices)), (None, ""))
        meaning = field.get("description") or SCHEMA["$defs"][str(inner["$ref"]).rpartition("/")[2]]["description"]
        is_required = name in section["required"] if "required" in section else False
        default = "required" if is_required else f"`{json.dumps(field['default'])}`" if inner is None else ""
        yield f"| `{path}{name}` | {meaning} | {default} |".replace("|  |", "| |")
        if inner is not None:
            yield from fields(inner, f"{path}{name}{below}.")


def inner_section(choice: dict[str, Any]) -> tuple[dict[str, Any], str] | None:
    """Give what refers to a section, or to that of each entry of a list, and how its fields follow in a path."""
    if "$ref" in choice:
        return choice, ""
    items = choice.get("items", {})
    return (items, "[]") if "$ref" in items else None
