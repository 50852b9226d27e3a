"""What becomes of a Worker's work when it is gone, as the Job's log tells it."""

from dataclasses import dataclass

from cortex.domain.ending import Exit
from cortex.domain.identity import batch_id, log_name
from cortex.domain.isolation import Death
from cortex.operator.joblog import append_line
from cortex.operator.run.attempts import Attempts
from cortex.operator.run.prospects import Prospects
from cortex.operator.run.workers import Phase, WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A Worker that is gone before it was done."""

    view: WorkerView
    ending: Exit
    suspect: int | None  # the Batch that it was in
    death: Death | None  # what that was charged with
    was_in_hook: bool

    def follow_up(self, attempts: Attempts, prospects: Prospects) -> None:
        """Do what follows for its Batch, which is queued again, or for those that would come after it; say so."""
        who = f"worker {log_name(self.view.pid, self.view.node)}" if self.view.pid else "a worker"
        cause = f"{self.ending.cause}," if self.ending.is_out_of_memory else self.ending.cause  # that one is a sentence
        if self.suspect is not None:
            name = batch_id(attempts.job.names_batches, self.suspect)
            consequence = attempts.follow_up(self.death) if self.death else "it goes back to the queue"
            append_line(attempts.folder.log, f"{who} {cause} while it processed batch {name}: {consequence}")
            return
        when = "between two batches" if self.view.phase is Phase.READY else "before its predictor was ready"
        when = "in `on_job_complete`" if self.was_in_hook else when
        append_line(attempts.folder.log, f"{who} {cause} {when}")
        if self.ending.is_charged:
            prospects.worker_died(self.ending, cause, when)
