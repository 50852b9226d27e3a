"""Documents as transcripts: the files and the commands that they show, and what these write."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FILE = re.compile(r"`([\w.-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JOB_ID = re.compile(r"\b[0-9a-f]{16}\b")
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
_VARIES = [
    (_JOB_ID, "JOB"),
    (_ADDRESS, "ADDRESS"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}"), "INSTANT"),
    (re.compile(r"\d\d \w{3} \d{4} \d\d:\d\d:\d\d UTC"), "TIME"),
    (re.compile(r"\bpid[- ]\d+"), "PID"),
    (re.compile(r"\b(?:\d+m)?\d+s$", re.MULTILINE), "SPAN"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "BATCH"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command, and what the document shows that it writes."""

    command: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that the document shows."""

    name: str
    text: str


def parts(document: str) -> Iterator[File | Step]:
    """Give the files and the commands of a document in their order."""
    found: list[tuple[int, list[File | Step]]] = [
        (match.start(), [File(name=match[1], text=match[2])]) for match in _FILE.finditer(document)
    ]
    found += [(match.start(), list(steps(match[0]))) for match in _CONSOLE.finditer(document)]
    for _, group in sorted(found, key=lambda each: each[0]):
        yield from group


def files(document: str) -> dict[str, str]:
    """Give the files that a document shows: each block after a line that ends with the file's name and a colon."""
    return dict(_FILE.findall(document))


def steps(document: str) -> Iterator[Step]:
    """Give the commands in the console blocks of a document."""
    for block in _CONSOLE.findall(document):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.replace("\\\n", "\0").partition("\n")  # a command may go on in the next line
            yield Step(command=command.replace("\0", "\\\n"), output=output)


def stand_ins(text: str) -> list[str]:
    """Give what commands repeat of earlier answers: addresses and job ids, each once."""
    return list(dict.fromkeys([*_ADDRESS.findall(text), *_JOB_ID.findall(text)]))


def job_ids(text: str) -> list[str]:
    """Give the job ids in a text."""
    return _JOB_ID.findall(text)


def steady(text: str) -> str:
    """Replace what is another in every run."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


def shows(expected: str, actual: str) -> bool:
    """Tell whether a command wrote what the document shows.

    There, a line of `...` stands for any number of lines, and `...` in a line for any part of it.
    """
    lines = (
        "(?:.*\\n)*" if line.strip() == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\\n"
        for line in steady(expected).strip().splitlines()
    )
    return re.fullmatch("".join(lines), f"{steady(actual).strip()}\n") is not None
