"""What is wrong with fields that are right by themselves, but not beside each other."""

from collections.abc import Sequence
from typing import Final

from cortex.configuration.section import Section

Findings = Sequence[tuple[tuple[str | int, ...], str]]
"""For each problem the path of the field that is to be changed, from the section that found it, and what is wrong."""


class Disagreement(ValueError):
    """Fields of a section that do not go together; pydantic reports it as one problem, the reader as several."""

    def __init__(self, findings: Findings) -> None:
        self.findings: Final = findings
        super().__init__("; ".join(f"{'.'.join(map(str, path))}: {text}" for path, text in findings))


def refuse_all(findings: Findings) -> None:
    """Raise a Disagreement where there is anything to be told."""
    if findings:
        raise Disagreement(findings)


def is_given(section: Section, field: str) -> bool:
    """Say whether a field of a section has a value that is not its default."""
    return bool(getattr(section, field) != type(section).model_fields[field].default)
