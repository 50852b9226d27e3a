"""Show how far a job is: a bar where somebody looks, lines where somebody may read them later."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

from cortex.answers import JobFacts
from cortex.clients.facts import failed_count, job_line, succeeded_count, total_count
from cortex.clients.pace import Pace

QUIET_SECONDS = 5.0

Show = Callable[[JobFacts], None]

Progress = bool | Show | None
"""Whether progress is shown, or whom to tell of it; None: only where somebody looks."""


class TerseProgress:
    """Writes a line when the status changes or what it waits for, at every tenth, and every five seconds in between.

    The five seconds grow with the job, so that a night's log does not fill up with them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = self._written_at = clock()
        self._stage: tuple[str, int, str] | None = None
        self._pace = Pace(clock)

    def show(self, job: JobFacts) -> None:
        """Write a line about the job, if one is due."""
        now = self._clock()
        done, total = succeeded_count(job) + failed_count(job), total_count(job)
        pace = self._pace.text(job)
        stage = (job["status"], 10 * done // total if total else 0, "" if done else pace)
        quiet_seconds = max(QUIET_SECONDS, (now - self._began_at) / 100)
        if stage != self._stage or now - self._written_at >= quiet_seconds:
            print(job_line(job) + pace, file=sys.stderr, flush=True)  # noqa: T201 - it was asked for
            self._stage, self._written_at = stage, now


def is_shown(progress: Progress) -> bool:
    """Tell whether anybody gets to see the progress of a job."""
    return callable(progress) or (_can_draw() if progress is None else progress)


def display(progress: Progress) -> AbstractContextManager[Show]:
    """Give what shows the progress of a job, as long as the context lasts."""
    if callable(progress):
        return nullcontext(progress)
    if progress is not False and _can_draw():
        # Here, because rich takes longer to import than a small job takes to run, and only who looks needs it.
        from cortex.clients.bar import progress_bar

        return progress_bar()
    return nullcontext(TerseProgress().show if progress else lambda _: None)


def _can_draw() -> bool:
    """Tell whether somebody looks, and there is what draws: in the environment of a predictor there need not be."""
    return find_spec("rich") is not None and (sys.stderr.isatty() or _is_notebook())


def _is_notebook() -> bool:
    """Tell whether this is a notebook that can draw a bar in place."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel") and find_spec("ipywidgets") is not None
