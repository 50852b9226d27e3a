"""The end of an operator: what runs may end within a grace period, and nothing else is begun."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cortex.domain.errors import OperatorStopping
from cortex.operator.jobs import Jobs
from cortex.serving.serving import Serving

HOOK_SECONDS: Final = 30.0
"""A hook is not run again, so it has at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What an operator that is about to end waits for."""

    batches: int
    hooks: int
    seconds: float  # at most
    requests: int = 0

    def __str__(self) -> str:
        """As users read it, to follow the words "waiting for"."""
        batches = [f"{self.batches} {'batch' if self.batches == 1 else 'batches'}"] if self.batches else []
        hooks = [f"{self.hooks} `on_job_complete`"] if self.hooks else []
        requests = [f"{self.requests} {'request' if self.requests == 1 else 'requests'}"] if self.requests else []
        return f"{' and '.join([*requests, *batches, *hooks])} to end (at most {self.seconds:.0f}s)"


@dataclass(slots=True, kw_only=True)
class Draining:
    """See the module. All methods are called from the operator's thread."""

    jobs: Jobs
    serving: Serving
    grace_seconds: float
    monotonic: Callable[[], float]
    _began_at: float | None = None
    _is_cut_short: bool = False

    def begin(self) -> None:
        """Hand out nothing more, and take back what has not begun."""
        self._began_at = self.monotonic()
        self.jobs.drain()
        self.serving.drain()

    def cut_short(self) -> None:
        """Wait no longer."""
        self._is_cut_short = True

    @property
    def has_begun(self) -> bool:
        """True once nothing new is begun."""
        return self._began_at is not None

    def refuse_if_begun(self) -> None:
        """Raise OperatorStopping once nothing new is begun."""
        if self.has_begun:
            raise OperatorStopping(
                "the operator is about to stop, and begins nothing new",
                hint="send it again in a moment; the next operator goes on with the jobs that there are",
            )

    @property
    def is_over(self) -> bool:
        """True once nothing runs, or what still does has had its time: it runs again when an operator is started."""
        return self._is_cut_short or self.waiting is None

    @property
    def waiting(self) -> Waiting | None:
        """What is waited for; None where nothing is, or no longer."""
        if self._began_at is None:
            return None
        hooks = sum(run.is_in_hook for run in self.jobs.runs.values())
        batches = sum(len(run.dispatch.leases()) for run in self.jobs.runs.values())
        requests = self.serving.in_flight
        patience = max(self.grace_seconds, HOOK_SECONDS) if hooks else self.grace_seconds
        seconds = self._began_at + patience - self.monotonic()
        if seconds <= 0 or not (hooks or batches or requests):
            return None
        return Waiting(batches=batches, hooks=hooks, requests=requests, seconds=seconds)

    def describe(self) -> Mapping[str, int | float] | None:
        """Describe what is waited for, in the words of the HTTP API; None unless this operator is about to end."""
        if self._began_at is None:
            return None
        waiting = self.waiting or Waiting(batches=0, hooks=0, seconds=0)
        return {
            "batches": waiting.batches,
            "hooks": waiting.hooks,
            "requests": waiting.requests,
            "seconds_left": round(waiting.seconds, 1),
        }
