"""What follows when an attempt with a Batch has failed: it is queued again, waits, is split or given up."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from cortex.domain.batch import BatchState
from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.isolation import MAX_DEATHS, Death, DeathKind, Part
from cortex.domain.job import Counts, Job
from cortex.domain.layout import JobFolder
from cortex.domain.lease import Lease, Pace
from cortex.domain.timing import Timer
from cortex.operator.run.accounts import Accounts
from cortex.operator.run.backoff import Backoff
from cortex.operator.run.batch_watch import BatchWatch
from cortex.operator.run.dispatch import Dispatch
from cortex.operator.run.surroundings import Surroundings
from cortex.operator.run.taking_in import Written
from cortex.storage.pages import PageContent, read_page

_Call = tuple[int | None, Part | None, int]
"""A call of predict: the Batch, the Part of it, and when it began: the same may be tried again."""


@dataclass(slots=True, kw_only=True)
class Attempts:
    """See the module. It stands between the Dispatch, which knows no attempts, and the run, which knows no queue."""

    job: Job
    folder: JobFolder
    dispatch: Dispatch
    accounts: Accounts
    backoff: Backoff
    end_worker: Callable[[str], None]  # one that takes too long
    failed: int = 0  # Batches that have ended as failed, as far as has been told
    _not_taken_in: dict[str, list[Written]] = field(default_factory=dict)
    _noted: dict[str, list[int]] = field(default_factory=dict)  # what has raised in each Worker under its Lease
    _charged: dict[str, Death] = field(default_factory=dict)  # what Workers that are gone have died in
    _too_long: dict[str, _Call] = field(default_factory=dict)  # what Workers were ended for

    def frame(self, lease: Lease) -> Frame:
        """Write a Lease as its holder is told of it."""
        extras = self.accounts.extras(lease.first) if lease.count == 1 else {}
        return {**self.dispatch.frame(lease), **extras}

    def counts(self) -> Counts:
        """Count the Batches of the Job, and their Items."""
        return self.dispatch.counts(self.accounts.failed_items)

    def fill(self) -> None:
        """Queue what is open; what an earlier operator was about to give up, it did not get to."""
        self.accounts.find_failed_items()
        self.dispatch.fill()
        for batch in self.accounts.charged:
            self._give_up_if_due(batch)

    def end_lease(self, worker: str, token: int, pace: Pace) -> None:
        """End a Lease on its holder's word. What it left open is queued, or waits for its next attempt.

        Raises LeaseLost.
        """
        self._note(worker)
        self.dispatch.end_lease(worker, token, pace)
        self._let_wait(worker)

    def release(self, worker: str) -> None:
        """End whatever a Worker holds, as in `end_lease`: it is gone, or came back without it."""
        self._note(worker)
        if self.dispatch.held_by(worker) is not None and self.job.policy.max_failures is not None:
            self.failed = self.counts().failed  # nobody tells how many have failed under this Lease
        self.dispatch.release(worker)
        self._let_wait(worker)

    def shorten(self, lease: Lease, told_limit: int | None = None) -> None:
        """Queue again what the holder of a Lease has not begun, as in Dispatch.

        What it has begun and raised is open too: that waits for its next attempt.
        """
        if self.dispatch.held_by(lease.worker) == lease:
            self._note(lease.worker)
            self.dispatch.shorten(lease, told_limit)
            for batch in self._noted[lease.worker]:
                self._wait(batch)

    def take_in(self, worker: str, written: Written) -> None:
        """Write down here what a Worker elsewhere has written, as in Dispatch.

        As long as that fails, nothing else that ends or shortens its Lease comes to pass.
        """
        waiting = self._not_taken_in.setdefault(worker, [])
        if written not in waiting:
            waiting.append(written)
        self.catch_up(worker)

    def catch_up(self, worker: str) -> None:
        """Take in whatever of a Worker could not be taken in when it came. Before anybody looks at its Batches."""
        waiting = self._not_taken_in.get(worker, [])
        while waiting:
            self.dispatch.take_in(worker, waiting[0])
            waiting.pop(0)
        self._not_taken_in.pop(worker, None)

    def _note(self, worker: str) -> None:
        """Take notice of what predict has raised in a Worker. May be repeated until its Lease has ended."""
        self.catch_up(worker)
        attempts, noted = self.accounts.read(worker), self._noted.setdefault(worker, [])
        noted += [attempt.batch for attempt in attempts]
        self.dispatch.lease_alone(noted)
        if self.job.policy.isolates:
            for attempt in attempts:
                if self.dispatch.state(attempt.batch) is BatchState.FAILED_IN_PART:
                    self.accounts.failed_in_part(attempt)

    def _let_wait(self, worker: str) -> None:
        for batch in self._noted.pop(worker):
            self._wait(batch)

    def explain(self, worker: str, batch: int | None, ending: Exit) -> Exit:
        """Say how a Worker ended that may have been ended because it took too long; `batch` is what it was in."""
        took_too_long = self._too_long.get(worker)
        if took_too_long is None:
            return ending
        page = read_page(self.folder, worker)
        if batch is not None and took_too_long == _call(page):
            seconds = self.job.policy.batch_timeout_seconds
            cause = f"was ended because predict took longer than {seconds:g} seconds (batch_timeout)"
            return replace(ending, detail=cause, is_out_of_time=True, is_out_of_memory=False)
        return replace(ending, detail="was ended because of the batch before this one", is_charged=False)

    def charge(self, worker: str, batch: int | None, ending: Exit) -> Death | None:
        """Charge an open Batch with the end of the Worker that was in it, in the ledger. May be repeated.

        None where nobody is at fault, or where predict has raised and that was the attempt.
        """
        self._note(worker)
        if worker in self._charged:
            return self._charged[worker]
        if batch is None or not ending.is_charged or batch in self._noted[worker]:
            return None
        kind = DeathKind.OUT_OF_MEMORY if ending.is_out_of_memory else DeathKind.DIED
        kind = DeathKind.TIMED_OUT if ending.is_out_of_time else kind
        part = read_page(self.folder, worker).part
        death = self.accounts.charge(batch, part, worker, kind=kind, cause=ending.cause)
        self._charged[worker] = death
        self.dispatch.lease_alone([batch])
        return death

    def follow_up(self, death: Death) -> str:
        """Do what follows for a Batch that was charged and is queued again; say what that is."""
        batch = death.batch
        if self._give_up_if_due(batch):
            is_third = death.deaths >= MAX_DEATHS
            return f"it is given up after {f'{MAX_DEATHS} deaths' if is_third else 'its last attempt'}"
        if death.kind is DeathKind.TIMED_OUT:
            self._wait(batch)
        if parts := self.accounts.extras(batch).get("parts"):
            return f"it is tried again in {len(parts)} parts"
        if death.kind is DeathKind.TIMED_OUT:
            number = self.accounts.attempts_used(batch) + 1
            return f"it is tried again, alone (attempt {number} of {self.job.policy.retries.attempts})"
        return f"it is tried again, alone (death {death.deaths} of {MAX_DEATHS})"

    def given_up(self) -> list[Death]:
        """Give the accounts of all that was given up, as Batches and Items that have ended so."""
        given_up: list[Death] = []
        for batch in self.accounts.charged:
            state, whole = self.dispatch.state(batch), self.accounts.given_up(batch)
            if state is BatchState.GIVEN_UP and whole is not None:
                given_up.append(whole)
            elif state is BatchState.FAILED_IN_PART:
                given_up += self.accounts.given_up_items(batch)
        return given_up

    @property
    def may_be_too_many_failed(self) -> bool:
        """Tell whether a count may show that more have failed than the Job allows; quick."""
        most = self.job.policy.max_failures
        return most is not None and most.is_exceeded(self.failed, self.job.total_batch_count)

    def watch(self, call_later: Timer) -> None:
        """End what takes longer than the Job allows, from now on."""
        seconds = self.job.policy.batch_timeout_seconds
        if seconds is not None:
            BatchWatch(
                timeout_seconds=seconds,
                folder=self.folder,
                dispatch=self.dispatch,
                now_ns=self.backoff.now_ns,
                call_later=call_later,
                took_too_long=self._took_too_long,
            ).start()

    def _took_too_long(self, worker: str, page: PageContent) -> None:
        if worker not in self._too_long:
            self._too_long[worker] = _call(page)
            self.end_worker(worker)

    def _give_up_if_due(self, batch: int) -> bool:
        if self.accounts.given_up(batch) is None or not self.dispatch.is_queued_alone(batch):
            return False
        self.dispatch.give_up(batch)
        self.failed += 1
        return True

    def _wait(self, batch: int) -> None:
        seconds = self.accounts.delay_seconds(batch)
        if seconds > 0 and self.dispatch.is_queued_alone(batch):
            self.dispatch.hold(batch)
            self.backoff.wait(batch, seconds)


def _call(page: PageContent) -> _Call:
    return page.current, page.part, page.started_at_ns


def open_attempts(
    job: Job, folder: JobFolder, around: Surroundings, *, next_token: Callable[[], int], woken: Callable[[], None]
) -> Attempts:
    """Begin with a Job, or go on where an earlier operator was; `woken` is called when Batches have waited enough."""
    segments = around.ledger.segments(job.id)
    accounts = Accounts(job, folder, segments, around.ledger)
    dispatch = Dispatch(job, folder, segments, next_token=next_token, singles=accounts.singles)

    def due(batches: list[int]) -> None:
        for batch in batches:
            dispatch.wake(batch)
        woken()

    def end_worker(worker: str) -> None:
        around.engine.stop(worker, at_once=True)

    attempts = Attempts(
        job=job,
        folder=folder,
        dispatch=dispatch,
        accounts=accounts,
        backoff=Backoff(now_ns=around.now_ns, call_later=around.call_later, due=due),
        end_worker=end_worker,
    )
    if job.policy.max_failures is not None:
        counts = attempts.counts()
        # A rerun of the hook alone takes over failures, and is not to be stopped for them.
        attempts.failed = counts.failed if job.rerun_of is None or counts.in_queue else 0
    return attempts
