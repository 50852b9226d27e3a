"""What the Batches of one Job have been charged with, and what follows for their next attempt.

Attempts that ended by raising are counted from what Workers have written, deaths and timeouts stand in the ledger:
this is a view of both that a new operator can rebuild.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cortex.domain.batch import BatchState
from cortex.domain.frame import Frame
from cortex.domain.isolation import MAX_DEATHS, Death, DeathKind, Part, PlannedPart, plan
from cortex.domain.job import Job, SegmentRange
from cortex.domain.layout import JobFolder
from cortex.storage.attempts import AttemptReader, FailedAttempt, failed_items
from cortex.storage.kept import batches_kept, kept_parts
from cortex.storage.ledger import Ledger
from cortex.storage.segments import SegmentDamaged, States


class Accounts:
    """See the module."""

    def __init__(self, job: Job, folder: JobFolder, segments: Sequence[SegmentRange], ledger: Ledger) -> None:
        """Read what there is: next to nothing, unless the Job's policy asks for more."""
        self._job = job
        self._folder = folder
        self._segments = segments
        self._ledger = ledger
        self._reader = AttemptReader(folder, job.id)
        self._raised: Counter[int] = Counter()
        self._failed_items: dict[int, int] = {}
        self._deaths: dict[int, dict[Part, Death]] = {}
        for death in ledger.deaths(job.id):
            self._deaths.setdefault(death.batch, {})[death.part] = death
        self._kept: dict[int, Frame | None] = {}  # None until it is asked for
        if job.rerun_of is not None:
            self._kept = {batch: None for segment in segments for batch in batches_kept(folder, segment)}
        if self._reads_entries:
            for index in folder.workers.glob(f"{job.id}-*.index"):
                self._raised.update(attempt.batch for attempt in self._reader.read_worker(index.stem))
        self.find_failed_items()

    @property
    def singles(self) -> Iterable[int]:
        """The Batches that are to be leased alone."""
        return self._raised.keys() | self._deaths.keys() | self._kept.keys()

    @property
    def charged(self) -> Iterable[int]:
        """The Batches that Workers died in."""
        return self._deaths.keys()

    @property
    def failed_items(self) -> Mapping[int, int]:
        """How many Items have failed of a Batch that has FAILED_IN_PART."""
        return self._failed_items

    @property
    def _reads_entries(self) -> bool:
        policy = self._job.policy
        return policy.isolates or policy.retries.attempts > 1 or bool(self._kept)

    def read(self, worker: str) -> list[FailedAttempt]:
        """Take notice of what predict has raised in a Worker since the last time, and give it."""
        if not self._reads_entries:
            return []
        attempts = self._reader.read_worker(worker)
        self._raised.update(attempt.batch for attempt in attempts)
        return attempts

    def failed_in_part(self, attempt: FailedAttempt) -> None:
        """Take notice of how many Items of a Batch have failed: with this attempt it has FAILED_IN_PART."""
        self._failed_items[attempt.batch] = attempt.items

    def find_failed_items(self) -> None:
        """Look up how many Items have failed of each Batch that has FAILED_IN_PART and was not noticed to end so."""
        if self._job.policy.isolates or self._job.rerun_of is not None:
            states = [States(self._folder, segment) for segment in self._segments]
            ended = [batch for each in states for batch in each.batches(BatchState.FAILED_IN_PART)]
            unnoticed = [batch for batch in ended if batch not in self._failed_items]
            self._failed_items.update(failed_items(self._folder, unnoticed))

    def charge(self, batch: int, part: Part | None, worker: str, *, kind: DeathKind, cause: str) -> Death:
        """Charge a Batch, or the Part of it that was in predict, with the death of a Worker."""
        part = part or self._roots(batch)[0]
        death = self._ledger.charge_death(self._job.id, batch, part, kind=kind, cause=cause, worker=worker)
        self._deaths.setdefault(batch, {})[death.part] = death
        return death

    def attempts_used(self, batch: int) -> int:
        """Count the attempts that have raised or taken too long. Deaths are counted for themselves."""
        roots = self._roots(batch)
        return self._raised[batch] + sum(death.timeouts for death in self._accounts(batch) if death.part in roots)

    def delay_seconds(self, batch: int) -> float:
        """Say how long a Batch waits for its next attempt."""
        return self._job.policy.retries.delay_seconds(max(1, self.attempts_used(batch)))

    def given_up(self, batch: int) -> Death | None:
        """Give the account that ends a Batch as a whole, if one does; what is split, its Worker ends."""
        account = self._deaths.get(batch, {}).get(self._roots(batch)[0])
        if account is None or self._is_split(batch):
            return None
        is_out_of_time = account.timeouts > 0 and self._has_used_up(batch)
        return account if account.deaths >= MAX_DEATHS or is_out_of_time else None

    def given_up_items(self, batch: int) -> list[Death]:
        """Give the accounts of the Items that are given up of a Batch that is split."""
        return [planned.given_up for planned in self._plan(batch) if planned.given_up] if self._is_split(batch) else []

    def extras(self, batch: int) -> Frame:
        """Give what its Worker must know of a Batch that is leased alone."""
        extras: Frame = {}
        attempt = min(self.attempts_used(batch) + 1, self._job.policy.retries.attempts)
        if attempt > 1:
            extras["attempt"] = attempt
        if self._is_split(batch):
            planned = self._plan(batch)
            if [PlannedPart(part=part) for part in self._roots(batch)] != planned:
                extras["parts"] = [
                    {
                        "first": each.part.first,
                        "end": each.part.end,
                        "given_up": each.given_up.failure if each.given_up else None,
                    }
                    for each in planned
                ]
        if batch in self._kept:
            extras["kept"] = self._kept_parts(batch)
        return extras

    def _accounts(self, batch: int) -> Iterable[Death]:
        return self._deaths.get(batch, {}).values()

    def _has_used_up(self, batch: int) -> bool:
        return self.attempts_used(batch) >= self._job.policy.retries.attempts

    def _is_split(self, batch: int) -> bool:
        """Tell whether Parts of a Batch may end differently."""
        return batch in self._kept or (self._job.policy.isolates and self._job.items_of(batch) > 1)

    def _plan(self, batch: int) -> list[PlannedPart]:
        return plan(self._roots(batch), self._accounts(batch), may_split=self._has_used_up(batch))

    def _roots(self, batch: int) -> list[Part]:
        """Give what there is to do of a Batch: all of it, but for what an earlier Job has kept."""
        if batch in self._kept:
            return [Part(first, end) for first, end, _ in self._kept_parts(batch)["failed"]]
        return [Part(0, self._job.items_of(batch))]

    def _kept_parts(self, batch: int) -> Frame:
        kept = self._kept[batch] or kept_parts(self._folder, batch)
        if kept is None:
            raise SegmentDamaged(f"`{self._folder.kept}` lacks batch {batch}")
        self._kept[batch] = kept
        return kept
