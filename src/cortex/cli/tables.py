"""Tables and blocks of facts as plain text."""

from collections.abc import Sequence

import click

_GAP = "   "


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows under bold headers, three spaces apart, without trailing spaces; nothing is ever wrapped."""
    lines = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    text = [_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([click.style(text[0], bold=True), *text[1:]])


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Lay out `name: value` lines with the values below each other."""
    width = max(len(name) for name, _ in pairs) + 1
    return "\n".join(f"{name + ':':<{width}} {value}" for name, value in pairs)


def hints(commands: Sequence[tuple[str, str]]) -> str:
    """Lay out commands to try next, each with what it does."""
    width = max(len(command) for command, _ in commands)
    return "\n".join(f"{command:<{width}}  ({purpose})" for command, purpose in commands)
