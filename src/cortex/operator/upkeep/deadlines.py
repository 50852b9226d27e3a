"""When Jobs must have ended."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cortex.domain.job import Job
from cortex.domain.timing import Timer


@dataclass(slots=True, kw_only=True)
class Deadlines:
    """Tells of each Job in progress when the timeout that it asked for is over."""

    now_ns: Callable[[], int]
    call_later: Timer
    is_over: Callable[[Job], None]
    _cancels: dict[str, Callable[[], None]] = field(default_factory=dict)

    def follow(self, job: Job) -> None:
        """Tell when the time of this Job is over, if it has asked for any limit: counted from its submission."""
        if job.policy.timeout_seconds is None or job.is_final:
            return
        left = (job.created_at_ns - self.now_ns()) / 1e9 + job.policy.timeout_seconds

        def ring() -> None:
            del self._cancels[job.id]
            self.is_over(job)

        self._cancels[job.id] = self.call_later(max(0.0, left), ring)

    def forget(self, job_id: str) -> None:
        """Tell nothing more of a Job."""
        if cancel := self._cancels.pop(job_id, None):
            cancel()
