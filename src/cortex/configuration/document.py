"""A YAML text as plain values, with the line of each of them.

Values are what JSON can hold: text, numbers, booleans, null, lists, and maps with text as keys. What YAML knows
beyond that (dates, sets, custom tags) stays text or is a problem. Anchors and merge keys (`<<`) are resolved.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any

import yaml

from cortex.configuration.wording import shorten
from cortex.domain.errors import InvalidConfiguration

Location = tuple[str | int, ...]
"""Where a value is: (0, "predictor", "path") is the field `path` of `predictor` of the first API."""

MAX_CHARACTERS = 1024 * 1024
MAX_VALUES = 100_000
"""Aliases count each time they are used: a few lines of them can stand for billions of values."""

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the file."""

    location: Location
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What the file says, as far as it can be read, and what is wrong with it as YAML."""

    value: Any
    lines: dict[Location, int]
    problems: list[Problem]

    def line_of(self, location: Location) -> int:
        """Return the line on which a field is named; of one that is missing, the line of what encloses it."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]


def read_document(text: str, file_name: str) -> Document:
    """Read a YAML text. Raises `InvalidConfiguration` where the text is no YAML at all, with file and line."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidConfiguration(f"{file_name}: must be at most {MAX_CHARACTERS} characters; got {len(text)}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader)
        value = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = ": ".join(part for part in (error.context, error.problem) if part)
        raise InvalidConfiguration(f"{file_name}:{line}: this is not valid YAML: {reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        reason = f"the character U+{int(error.character):04X} is not allowed"
        raise InvalidConfiguration(f"{file_name}:{line}: this is not valid YAML: {reason}") from error
    except RecursionError as error:
        raise InvalidConfiguration(f"{file_name}: lists and maps are nested too deeply") from error
    reader.lines.setdefault((), 1)
    return Document(value=value, lines=reader.lines, problems=reader.problems)


class _Loader(yaml.SafeLoader):
    """YAML as the Go library of earlier releases read it, so that a file keeps its meaning.

    `1e-3` is a number (YAML 1.1 wants `1.0e-3`), `12:30` is text (and not 750), and so is `2020-07-20`.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class declares it so)
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag.rpartition(":")[2] not in {"timestamp", "int", "float", "value"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:\.[0-9]+|[0-9][0-9_]*\.[0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)$"
        r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


class _Reader:
    """Turns nodes into values, noting lines and problems on the way."""

    def __init__(self, loader: _Loader) -> None:
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self._loader = loader
        self._open: set[yaml.Node] = set()
        self._reported: set[yaml.Node] = set()
        self._values = 0

    def read(self, node: yaml.Node, location: Location) -> object:
        self.lines.setdefault(location, _line(node))
        self._values += 1
        if self._values > MAX_VALUES:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_VALUES} values", problem_mark=node.start_mark)
        if node in self._open:
            raise yaml.MarkedYAMLError(problem="an alias stands inside its own anchor", problem_mark=node.start_mark)
        self._open.add(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._read_map(node, location)
            if isinstance(node, yaml.SequenceNode):
                return self._read_list(node, location)
            return self._read_scalar(node, location)
        finally:
            self._open.remove(node)

    def _read_map(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        self._expect_tag(node, location, "map")
        values: dict[str, object] = {}
        for key, key_node, value_node in self._entries(node, location):
            if key in values:
                continue  # said here, so what is merged from elsewhere does not count
            self.lines[(*location, key)] = _line(key_node)
            values[key] = self.read(value_node, (*location, key))
        return values

    def _read_list(self, node: yaml.SequenceNode, location: Location) -> list[object]:
        self._expect_tag(node, location, "seq")
        return [self.read(item, (*location, number)) for number, item in enumerate(node.value)]

    def _read_scalar(self, node: yaml.Node, location: Location) -> object:
        kind = node.tag.rpartition(":")[2]
        value: str = node.value
        if kind in {"null", "bool", "int", "float"}:
            return self._construct(node, location, kind)
        if not node.tag.startswith("tag:yaml.org,2002:") or kind == "binary":
            self._report(node, location, f"the tag `{node.tag}` is not supported")
        elif not _is_unicode(value):
            self._report(node, location, "the text holds half of a surrogate pair, which is no character")
            return ""
        return value

    def _construct(self, node: yaml.Node, location: Location, kind: str) -> object:
        with suppress(ValueError, KeyError, IndexError):
            value: object = getattr(self._loader, f"construct_yaml_{kind}")(node)
            if not isinstance(value, float) or isfinite(value):
                return value
        self._report(node, location, f"got `{shorten(node.value)}`, which is no {kind} that JSON can hold; quote it")
        return None

    def _entries(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield a map's own entries, then the ones that it merges from elsewhere."""
        first_lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            elif key_node.tag != "tag:yaml.org,2002:str" or not _is_unicode(key_node.value):
                self._report(
                    key_node, location, f"got {_describe_key(key_node)} as a key; keys must be text (quote it)"
                )
            elif key_node.value in first_lines:
                first = first_lines[key_node.value]
                place = (*location, key_node.value)
                self._report(key_node, place, f"stands here twice; first on line {first}")
            else:
                first_lines[key_node.value] = _line(key_node)
                yield key_node.value, key_node, value_node
        for other in merged:
            if not isinstance(other, yaml.MappingNode):
                self._report(other, location, "`<<` merges maps only")
            elif other in self._open:
                self._report(other, location, "`<<` merges a map into itself")
            else:
                self._open.add(other)
                yield from self._entries(other, location)
                self._open.remove(other)

    def _expect_tag(self, node: yaml.Node, location: Location, kind: str) -> None:
        if node.tag != f"tag:yaml.org,2002:{kind}":
            self._report(node, location, f"the tag `{node.tag}` is not supported")

    def _report(self, node: yaml.Node, location: Location, text: str) -> None:
        if node not in self._reported:  # an alias leads here again
            self._reported.add(node)
            self.problems.append(Problem(location=location, line=_line(node), text=text))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe_key(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"`{shorten(node.value)}` ({node.tag.rpartition(':')[2]})"
    return "a map" if isinstance(node, yaml.MappingNode) else "a list"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
