"""Who of the Workers of one Job is let go, and how."""

from dataclasses import dataclass

from cortex.operator.run.crew import Crew
from cortex.operator.run.dispatch import Dispatch
from cortex.operator.run.feeder import Feeder
from cortex.operator.run.workers import Phase


@dataclass(slots=True, kw_only=True)
class Departures:
    """See the module."""

    crew: Crew
    feeder: Feeder
    dispatch: Dispatch

    def release(self, *, keep: str | None, at_once: bool) -> None:
        """Let all but one go: there is nothing left for them to do."""
        self.crew.release(
            [worker for worker in self.crew.views if worker != keep],
            at_once=at_once,
            message=f"no batches left in queue, {'job has been completed' if keep is None else 'exiting...'}",
        )

    def release_idle(self) -> None:
        """Let those go that hold no Lease, because the Job is paused."""
        starting = self._without_lease(self.crew.roster.starting)
        self.crew.release([*starting, *self.feeder.idle()], at_once=False, message="the job is paused, exiting...")

    def give_back(self, count: int, *, is_news: bool) -> None:
        """Let so many go for others: those that do nothing yet, and later whoever is the first to end its Lease.

        That it is soon, nobody begins anything more under the Lease that it has when this `is_news`.
        """
        starting = [
            worker
            for worker in self._without_lease(self.crew.roster.starting)
            if self.crew.views[worker].phase is Phase.INITIALIZING
        ]
        going = [*reversed(starting), *self.feeder.idle()][:count]
        self.crew.let_go(going, at_once=False, message="others wait for its place, exiting...")
        if is_news and len(going) < count:
            self.feeder.reclaim.all()

    def withdraw(self, count: int) -> None:
        """Withdraw so many of those that wait for a place, the newest first, as far as there are any."""
        waiting = [worker for worker in self.crew.roster.pending if not self.crew.engine.has_place(worker)]
        self.crew.let_go(waiting[::-1][:count], at_once=True)

    def _without_lease(self, workers: dict[str, None]) -> list[str]:
        """Give those that hold no Lease; one that holds one may be starting: it is not connected again yet."""
        return [worker for worker in workers if self.dispatch.held_by(worker) is None]
