"""While a Job is being enqueued, what its Workers will be started from can be made ready."""

from cortex.domain.errors import CortexError
from cortex.domain.job import Job
from cortex.domain.layout import JobFolder
from cortex.operator.preparation import Preparation, Prepared
from cortex.operator.run.surroundings import Surroundings


def warm_up(job: Job, folder: JobFolder, around: Surroundings, preparation: Preparation) -> None:
    """Have the predictor's module of a Job imported, if that can be; nobody is told."""
    version = around.ledger.version(job.api_id)
    if version is None:
        return

    def done(outcome: Prepared | CortexError) -> None:
        if isinstance(outcome, Prepared):  # else the Job itself will meet it, and tell
            setup = preparation.setup(version, outcome, job)
            around.engine.warm_up(setup.order(job.id, job, folder), min(job.workers, setup.places))

    preparation.prepare(version, lambda _: None, done)
