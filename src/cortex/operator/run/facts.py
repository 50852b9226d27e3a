"""The facts of a Job in progress that `decide` asks for."""

from cortex.domain.job import JobStatus
from cortex.operator.run.crew import Crew
from cortex.operator.run.decide import Facts
from cortex.operator.run.elastic import Elastic
from cortex.operator.run.hook import Hook
from cortex.operator.run.prospects import Prospects


def gather(
    status: JobStatus, crew: Crew, elastic: Elastic, hook: Hook, prospects: Prospects, *, all_ended: bool
) -> Facts:
    """Gather them. Its cost does not grow with the number of Workers."""
    roster = crew.roster
    is_stopping = status is JobStatus.STOPPING  # then only those that are gone can do nothing more
    return Facts(
        status=status,
        can_start=crew.setup is not None,
        workers_wanted=elastic.wanted,
        starting=len(roster.starting),
        ready=len(roster.waiting),
        first_ready=next(iter(roster.waiting), None),
        live=len(roster.views) - (0 if is_stopping else roster.have_said_all),
        all_ended=all_ended,
        has_hook=hook.exists,
        hook_was_started=hook.worker is not None,
        hook_is_over=hook.is_over,
        is_hopeless=prospects.is_hopeless,
        unreleased=roster.unreleased,
        surplus=elastic.count_surplus() if status is JobStatus.RUNNING else 0,
    )
