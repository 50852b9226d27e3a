"""How `--workers` is written: a number, or `2-8`."""

import re
from typing import Final

import click

from cortex.clients.job_request import WorkerRange

_NUMBER: Final = re.compile(r"-?[0-9]+")
_RANGE: Final = re.compile(r"(?P<min>[0-9]{1,9})-(?P<max>[0-9]{1,9})")


def read_workers(context: click.Context, parameter: click.Parameter, text: str | None) -> int | WorkerRange | None:
    """Give what a request says: a number, at least 1, or the least and the most that there are to be."""
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None and not _NUMBER.fullmatch(text):
        raise click.BadParameter(f"{text} is neither a number nor a range such as 2-8")
    if match is None:
        number: int = click.IntRange(1)(text, parameter, context)
        return number
    asked: WorkerRange = {"min": int(match["min"]), "max": int(match["max"])}
    if not 1 <= asked["min"] <= asked["max"]:
        raise click.BadParameter(f"{text} is not in the range 1<=MIN<=MAX")
    return asked
