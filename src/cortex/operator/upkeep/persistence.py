"""Handles what has happened, again and again until that succeeds: a full disk harms one Job for as long as it lasts."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cortex.domain.layout import JobFolder
from cortex.domain.timing import Timer
from cortex.operator.run.job_run import JobRun
from cortex.operator.upkeep.recovery import is_damage
from cortex.operator.upkeep.trouble import Trouble, Troubles

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Persistence:
    """See the module."""

    runs: Mapping[str, JobRun]
    folder: Callable[[str], JobFolder]
    give_up: Callable[[str, Exception], None]
    troubles: Troubles
    call_later: Timer

    def handle(
        self, handle: Callable[..., object], *facts: Any, of: JobRun | None = None, trouble: Trouble | None = None
    ) -> None:
        """Handle what has happened.

        What happens to a run that is over is of no interest. A handler changes what it holds in memory only after
        what it writes, so it may be repeated.
        """
        is_over = of is not None and self.runs.get(of.job.id) is not of
        try:
            if not is_over:
                handle(*facts)
        except Exception as error:
            about = of.job.id if of else str(*facts[:1])
            if trouble is not None and is_damage(error, self.folder(about)):  # seen twice, so it will not pass
                self.troubles.forget(trouble)
                self.handle(self.give_up, about, error)
                return
            name = getattr(handle, "__qualname__", "an event")
            logger.exception("%s failed and is tried again", name, exc_info=error)
            trouble = self.troubles.note(trouble, about, error)
            self.call_later(_RETRY_SECONDS, partial(self.handle, handle, *facts, of=of, trouble=trouble))
        else:
            self.troubles.forget(trouble)
