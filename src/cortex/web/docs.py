"""The OpenAPI document as a page for people: plain HTML, nothing is loaded from elsewhere."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any, Final

from cortex.web.openapi import document

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .2rem; border-top: 1px solid #ddd; padding-top: 1rem }}
code, pre {{ font: 14px/1.45 ui-monospace, monospace }}
pre {{ background: #f6f6f4; padding: .6rem .8rem; overflow-x: auto }}
.method {{ display: inline-block; min-width: 4.5em; color: #0a58a8 }}
table {{ border-collapse: collapse }}
td {{ padding: .1rem 1.2rem .1rem 0; vertical-align: top }}
</style>
<h1>{title}</h1>
<p>{about} The same for programs: <a href="openapi.json">openapi.json</a>.</p>
{operations}
<h1>Shapes</h1>
{shapes}
</html>
"""


@cache
def page() -> str:
    """Make the page."""
    described = document()
    info, paths = described["info"], described["paths"].items()
    users_first = sorted(paths, key=lambda item: not item[0].startswith("/{endpoint}"))
    operations = "".join(
        _operation(method.upper(), path, operation)
        for path, methods in users_first
        for method, operation in methods.items()
    )
    shapes = "".join(_shape(name, shape) for name, shape in sorted(described["components"]["schemas"].items()))
    title = escape(f"{info['title']} {info['version']}")
    return _PAGE.format(title=title, about=_code_in(info["description"]), operations=operations, shapes=shapes)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f'<h2><code><span class="method">{method}</span>{escape(path)}</code></h2><p>{operation["summary"]}.</p>']
    rows = [*_parameters(operation), *_body(operation), *_answers(operation)]
    parts.append("<table>" + "".join(f"<tr><td>{name}<td>{about}" for name, about in rows) + "</table>")
    return "".join(parts)


def _parameters(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for parameter in operation["parameters"]:
        if parameter["in"] != "path":
            yield f"<code>{parameter['name']}</code> ({parameter['in']})", escape(parameter.get("description", ""))


def _body(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "body", f"{media_type} {_link(content['schema'])}"


def _answers(operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for status, answer in operation["responses"].items():
        contents = (f"{media_type} {_link(each['schema'])}" for media_type, each in answer.get("content", {}).items())
        yield f"<code>{status}</code>", f"{escape(answer['description'])} {', '.join(contents)}"


def _link(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_link(each) for each in schema["anyOf"])
    if "items" in schema:
        return f"list of {_link(schema['items'])}"
    name = schema.get("$ref", "").rpartition("/")[2]
    return f'<a href="#{name}"><code>{name}</code></a>' if name else ""


def _shape(name: str, shape: Mapping[str, Any]) -> str:
    return f'<h2 id="{name}"><code>{name}</code></h2><pre>{escape(json.dumps(shape, indent=2))}</pre>'


def _code_in(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
