"""Options that many commands share."""

import json
import sys
from collections.abc import Iterable

import click

environment_option = click.option(
    "-e", "--env", "environment_name", metavar="NAME", help="The environment to use instead of the default one."
)

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["pretty", "json"]),
    default="pretty",
    show_default=True,
    help="How to write the answer.",
)


def write_json(value: object) -> None:
    """Write a value to stdout as JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def talk(text: str) -> None:
    """Tell the user something that is not data."""
    click.echo(text, err=True)


def write_stream(chunks: Iterable[bytes]) -> bool:
    """Write bytes to stdout as they come; return whether any came."""
    is_empty = True
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()  # whoever reads us wants to see a line when it is there
        is_empty = False
    return not is_empty
