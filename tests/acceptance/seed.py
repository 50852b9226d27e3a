"""The tutorial that users know, read where it lies when a test runs: its files, commands and what these show."""

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

import httpx
import pytest
from transcript import Step

TIMEOUT_SECONDS = 60
PATH = Path(__file__).parents[3] / "shared" / "seeds" / "3-batch-api-tutorial.md"

_HEADING = re.compile(r"^(##+) (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w.]+)\n\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """The tutorial's text."""

    text: str

    @classmethod
    def read(cls) -> "Seed":
        """Read it; the test is skipped where it is missing: it is no part of the project."""
        if not PATH.exists():
            pytest.skip("the tutorial lies beside the project, and it is not there")
        return cls(text=PATH.read_text())

    def files(self) -> dict[str, str]:
        """Give the files: the blocks that begin with a comment that names one."""
        blocks = [text for _, text in _BLOCK.findall(self.text)]
        return {match[1]: text.removeprefix(match[0]) for text in blocks if (match := _FILE.match(text))}

    def step(self, *headings: str, number: int = 0) -> Step:
        """Give a command below a heading, named by it and those above it; exports are not counted.

        What a command of one line shows follows it in its block, what another one does is the block after it.
        """
        blocks = _BLOCK.findall(self._section(headings))
        steps = []
        for index, (_, text) in enumerate(blocks):
            commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
            for command in (command for command in commands if not command.startswith("export ")):
                if command.endswith("EOF\n"):
                    steps.append(Step(command=command, output=blocks[index + 1][1]))
                else:
                    line, _, output = command.partition("\n")
                    steps.append(Step(command=line, output=output.strip()))
        return steps[number]

    def _section(self, headings: tuple[str, ...]) -> str:
        """Give the text below a heading, up to the next one."""
        start = 0
        for heading in headings:
            start = next(m.end() for m in _HEADING.finditer(self.text, start) if m[2] == heading)
        following = _HEADING.search(self.text, start)
        return self.text[start : following.start() if following else None]


def curl(command: str, **variables: str) -> httpx.Response:
    """Do what a `curl` command of the seed does, with the shell's variables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-X", dest="method", default="GET")
    parser.add_argument("-H", dest="header", default="Accept: */*")
    parser.add_argument("-d", dest="data")
    line, _, document = command.replace("\\\n", " ").partition("<<EOF\n")
    arguments = parser.parse_args(shlex.split(Template(line).substitute(variables))[1:])
    assert arguments.data == ("@-" if document else None)
    return httpx.request(
        arguments.method,
        arguments.url,
        headers=dict([arguments.header.split(": ")]),
        content=Template(document.removesuffix("EOF\n")).substitute(variables),
        timeout=TIMEOUT_SECONDS,
    )
