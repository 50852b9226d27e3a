"""docs/delivery.md speaks of what there is: the options, commands, fields and limits of the code."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import Command, Context, Group

from cortex.cli.main import main
from cortex.configuration.json_schema import json_schema
from cortex.domain.isolation import MAX_DEATHS
from cortex.operator.run.prospects import MAX_FAILURES_IN_ROW
from cortex.operator.upkeep.draining import HOOK_SECONDS
from cortex.settings import DEFAULT_GRACE_SECONDS, DEFAULT_STALL_SECONDS
from cortex.worker.link import ORPHAN_SECONDS

ROOT = Path(__file__).parents[2]
TEXT = " ".join((ROOT / "docs" / "delivery.md").read_text().split())


def commands(command: Command, name: str = "cortex") -> Iterator[tuple[str, Command]]:
    """Give a command and all below it, by their names."""
    yield name, command
    if isinstance(command, Group):
        context = Context(command)
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            assert below is not None
            yield from commands(below, f"{name} {child}")


def test_its_options_exist() -> None:
    known = {option for _, command in commands(main) for each in command.params for option in each.opts}

    assert [] == [option for option in re.findall(r"--[a-z][a-z-]+", TEXT) if option not in known]


def test_its_commands_exist() -> None:
    known = {name for name, _ in commands(main)}

    assert [] == [name for name in re.findall(r"`(cortex [a-z]+(?: [a-z]+)?)", TEXT) if name not in known]


def test_its_fields_are_those_of_a_job() -> None:
    rows = [line for line in (ROOT / "docs" / "delivery.md").read_text().splitlines() if line.startswith("| `")]
    named = {found[1] for line in rows if (found := re.match(r"\| `([a-z_]+)(?:: [a-z]+)?` \|", line))}

    sections = json_schema()["$defs"]
    known = {field for section in sections.values() for field in section.get("properties", ())}
    assert named
    assert named <= known


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (DEFAULT_GRACE_SECONDS == 10, "`--grace-period` (10 seconds)"),
        (HOOK_SECONDS == 30, "`on_job_complete` at least 30 seconds"),
        (DEFAULT_STALL_SECONDS == 60, "After a minute without the end of a batch (`--stall-after`)"),
        (MAX_DEATHS == 3, "A batch that was the death of three workers has failed"),
        (MAX_FAILURES_IN_ROW == 3, "after three in a row no other is started"),
        (ORPHAN_SECONDS == 30, "adopts them, if it comes within half a minute"),
    ],
)
def test_its_limits_are_those_of_the_code(limit: bool, said: str) -> None:
    assert limit
    assert said in TEXT
