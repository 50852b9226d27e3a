"""What the user's code has raised, as its user reads it."""

import os
import time
import traceback
from pathlib import Path
from typing import Any, Final

from cortex.domain.errors import InvalidPredictor

_OWN_CODE: Final = (str(Path(__file__).parent.parent), "<frozen ")
_LINE_LENGTH: Final = 200


def show(error: BaseException) -> str:
    """Show where the user's code raised, without the frames of ours that led there."""
    if isinstance(error, InvalidPredictor):  # it is ours: what it says is all there is
        return summarize(error)
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_CODE):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames or error.__traceback__)).rstrip()


def summarize(error: BaseException) -> str:
    """Give type and message; of what we have found wrong ourselves, the message."""
    if isinstance(error, InvalidPredictor):
        return str(error)
    return "".join(traceback.format_exception_only(error)).strip()


def in_a_line(error: BaseException) -> str:
    """Give type and message as far as they fit into a line of a log."""
    line = summarize(error).partition("\n")[0][:_LINE_LENGTH]
    return line.encode(errors="backslashreplace").decode()


def describe(error: BaseException, node: str | None = None) -> dict[str, Any]:
    """Write a failure down, for a failure entry; `node` is where this runs, if that is elsewhere."""
    elsewhere = {} if node is None else {"node": node}
    return {
        "type": type(error).__name__,
        "message": _message(error),
        "traceback": show(error),
        "at_ns": time.time_ns(),
        "pid": os.getpid(),
        **elsewhere,
    }


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as another:  # the user's class may be at fault even here
        return f"<its text cannot be had: {type(another).__name__}>"


def is_any_of(error: BaseException, names: frozenset[str]) -> bool:
    """Tell whether a class of this error, or one above it, has one of these names, with or without its module."""
    return any(cls.__name__ in names or f"{cls.__module__}.{cls.__qualname__}" in names for cls in type(error).__mro__)
