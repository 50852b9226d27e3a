"""The contract as rows, and which test shows which row.

A row is a bullet, a line of a table, or a sentence that stands for itself. A test shows the row whose first words its
docstring quotes, up to `…`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTRACT = Path(__file__).parents[4] / "shared" / "contract.md"
TESTS = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotation:
    """What the docstring of a test quotes; nothing if it quotes no row."""

    test: str
    words: str


def rows(contract: str) -> list[str]:
    """Give the rows of all numbered sections, each on one line."""
    sections = re.split(r"^## .*\n", contract, flags=re.MULTILINE)[1:]
    blocks = [block for section in sections for block in re.split(r"\n\s*\n|^#.*\n", section, flags=re.MULTILINE)]
    return [row for block in blocks for row in _rows_of_block(block.strip())]


def _rows_of_block(block: str) -> Iterator[str]:
    before, *bullets = re.split(r"^- ", block, flags=re.MULTILINE)
    if before.startswith("|"):
        cells = [[cell.strip() for cell in line.strip(" |").split(" | ")] for line in before.splitlines()[2:]]
        yield from (" | ".join(line) for line in cells)
    elif before:
        yield from re.split(r"(?<=\.) (?=[A-Z`])", _on_one_line(before))
    yield from map(_on_one_line, bullets)


def quotations() -> Iterator[Quotation]:
    """Give what the docstrings of the tests in this folder quote."""
    for path in sorted(TESTS.glob("test_[0-9]*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                words, quotes, _ = (ast.get_docstring(node) or "").partition("…")
                yield Quotation(test=f"{path.name}::{node.name}", words=_on_one_line(words) if quotes else "")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
