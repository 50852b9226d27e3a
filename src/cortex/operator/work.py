"""What the Workers of a Job have done, from their pages: those of thousands are not read whenever somebody asks."""

from dataclasses import dataclass, field
from typing import Final

from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.storage.pages import work_done

_MANY_WORKERS: Final = 64
_FRESH_NS: Final = 1_000_000_000
_MOST_REMEMBERED: Final = 256


@dataclass(slots=True)
class WorkDone:
    """See the module."""

    _seen: dict[str, tuple[int, tuple[int, float]]] = field(default_factory=dict)

    def of(self, job: Job, folder: JobFolder, *, now_ns: int) -> tuple[int, float]:
        """Count the Batches that Workers have ended, and the seconds that they spent in them.

        Of a Job with many Workers, as of a second ago.
        """
        if job.final_counts is not None and job.rerun_of is None:  # a rerun has Batches that it did not run
            return job.final_counts.succeeded + job.final_counts.failed, job.busy_seconds
        if job.workers <= _MANY_WORKERS:
            return work_done(folder)
        seen_at_ns, done = self._seen.get(job.id, (0, (0, 0.0)))
        if not 0 <= now_ns - seen_at_ns < _FRESH_NS:
            if len(self._seen) >= _MOST_REMEMBERED:
                self._seen.clear()
            done = work_done(folder)
            self._seen[job.id] = now_ns, done
        return done
