"""What supervisors and Workers elsewhere say, made sure to have the form that it should have.

What has happened is handled again and again until that succeeds. So nothing is brought on that never could be,
whoever it is that speaks there.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from cortex.domain.frame import Frame, FrameError

_MOST: Final = 2**63 - 1
_LONGEST_REASON: Final = 10_000

Check = Callable[[Any], bool]
Form = Mapping[str, Check]
"""What must be right of a frame. What may be missing is marked with a `?`."""


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) <= _MOST


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_place(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_count(value.get(name)) for name in ("millicores", "mem_bytes", "gpus"))


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


_HOW_IT_ENDED: Final[Form] = {
    "error?": _or_none(_is_text),
    "out_of_memory?": _or_none(_is_flag),
    "stopped_seconds?": _or_none(_is_number),
}
_CHILD: Final[Form] = {
    "pid": _or_none(_is_count),
    "exit_status": _or_none(_is_whole),
    "place": _is_place,
    **_HOW_IT_ENDED,
}

_FORMS: Final[Mapping[tuple[str, str], Form]] = {
    ("worker", "ready"): {"has_hook": _is_flag},
    ("worker", "init_failed"): {"error": _is_text},
    ("worker", "lease_ended"): {"token": _is_count, "finished": _is_count, "failed?": _is_count, "seconds": _is_number},
    ("worker", "hook_ended"): {"error": _or_none(_is_text)},
    ("supervisor", "hello"): {"supervisor": str.isprintable, "workers": lambda value: isinstance(value, list)},
    ("supervisor", "started"): {"pid": _is_count},
    ("supervisor", "exited"): {"exit_status": _is_whole, **_HOW_IT_ENDED},
}
_FORMS_OF_HELLO: Final[Mapping[str, Form]] = {"ready": {"has_hook": _is_flag}, "failed": {"error": _is_text}}


def checked(frame: Frame, *, serves: bool) -> Frame:
    """Give what the Worker of a station, or its supervisor, says; its reasons can be shown.

    Raises what a peer that does not keep to the protocol does: FrameError, KeyError, TypeError. What is of a form that
    is not known here, nobody looks at but where it is heard at once.
    """
    peer, kind = frame["peer"], frame["type"]
    if kind == "written":
        raise FrameError(f"a {peer} says `{kind}`, which is its station's to say")
    form = _FORMS.get((peer, kind), {})
    if (peer, kind) == ("worker", "hello") and not (serves and frame["phase"] == "ready"):
        form = _FORMS_OF_HELLO.get(frame["phase"], {})
    frame = _checked(frame, form)
    if (peer, kind) == ("supervisor", "hello"):
        frame["workers"] = [_checked(child, _CHILD) for child in frame["workers"]]
    return frame


def shown(reason: str) -> str:
    """Give a reason as it can be written to any file."""
    return reason[:_LONGEST_REASON].encode(errors="replace").decode()


def _checked(frame: Frame, form: Form) -> Frame:
    for marked, is_right in form.items():
        name = marked.removesuffix("?")
        if (name in frame or name == marked) and not is_right(frame[name]):
            raise FrameError(f"`{name}` is {frame[name]!r}")
    return {**frame, "error": shown(frame["error"])} if isinstance(frame.get("error"), str) else dict(frame)
