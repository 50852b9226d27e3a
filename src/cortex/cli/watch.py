"""Show something again and again: `--watch`."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import click

INTERVAL_SECONDS = 2.0

_HOME = "\x1b[H"
_END_LINE = "\x1b[K\n"
_CLEAR_BELOW = "\x1b[J"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen at one instant: the operator's answer, how to draw it, and the lines of what may change in it."""

    answer: object
    text: str
    lines: Sequence[str]
    is_last: bool = False


def watch(look: Callable[[], Look], *, title: str) -> None:
    """Look every two seconds until there is nothing more to see, or the user has seen enough.

    A terminal is drawn over in place; elsewhere only the lines that have changed are written.
    """
    show = _screen(title) if sys.stdout.isatty() else _changes()
    try:
        while True:
            seen = look()
            show(seen)
            if seen.is_last:
                return
            time.sleep(INTERVAL_SECONDS)
    except KeyboardInterrupt:
        return


def _screen(title: str) -> Callable[[Look], None]:
    click.clear()

    def show(seen: Look) -> None:
        width, height = shutil.get_terminal_size()
        lines = [_header(title, width), "", *seen.text.splitlines()]
        lines = [_cut(line, width) for line in lines[: height - 1]]
        click.echo(_HOME + "".join(line + _END_LINE for line in lines) + _CLEAR_BELOW, nl=False)

    return show


def _changes() -> Callable[[Look], None]:
    shown: set[str] = set()

    def show(seen: Look) -> None:
        for line in seen.lines:
            if line not in shown:
                click.echo(line)
        shown.clear()
        shown.update(seen.lines)

    return show


def _header(title: str, width: int) -> str:
    now = datetime.now().astimezone()
    clock = f"{now:%I:%M:%S%p}".lstrip("0").lower() + f" {now:%Z}"
    room = max(0, width - len(clock) - 1)
    return f"{title[:room]:<{room}} {clock}"


def _cut(line: str, width: int) -> str:
    plain = click.unstyle(line)
    return line if len(plain) <= width else plain[:width]
