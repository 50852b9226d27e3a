"""What a machine will be when elastic Jobs have given back what others wait for: pure.

The promises:

- Nobody is asked to give back more than it has above its least, and nothing is asked for that does not help.
- For a Worker that its Job can do without, only a Job is asked that has as many even after that: two elastic Jobs
  that could take all of the machine share it, and do not take turns.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from cortex.engines.engine import Needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a machine has for Workers."""

    millicores: int
    mem_bytes: int
    gpus: int
    workers: int

    def has_room(self, needs: Needs, *, beside: Needs, workers: int) -> bool:
        """Tell whether a Worker has room beside so many others, which need this much together."""
        return workers < self.workers and not any(
            (
                is_short(needs.millicores, beside.millicores, self.millicores),
                is_short(needs.mem_bytes, beside.mem_bytes, self.mem_bytes),
                is_short(needs.gpus, beside.gpus, self.gpus),
            )
        )

    def is_helped(self, needs: Needs, *, beside: Needs, workers: int, by: Needs) -> bool:
        """Tell whether a Worker that has no room lacks something that one of the others would give back."""
        return workers >= self.workers or any(
            (
                by.millicores and is_short(needs.millicores, beside.millicores, self.millicores),
                by.mem_bytes and is_short(needs.mem_bytes, beside.mem_bytes, self.mem_bytes),
                by.gpus and is_short(needs.gpus, beside.gpus, self.gpus),
            )
        )


@dataclass(slots=True, kw_only=True)
class Outlook:
    """See the module. It is made from what is so now, and changes with what is asked for."""

    capacity: Capacity
    taken: Needs  # by all Workers together
    workers: int
    placed: Counter[str]  # how many, by Job
    least: Mapping[str, int]  # of elastic Jobs: how many Workers are not asked back
    needs: Mapping[str, Needs]  # of each Worker of a Job
    given: Counter[str] = field(default_factory=Counter)  # what is asked back, by Job

    def is_spare(self, job_id: str) -> bool:
        """Tell whether a Job could do without its next Worker."""
        return job_id in self.least and self.placed[job_id] >= self.least[job_id]

    def has_room(self, needs: Needs) -> bool:
        """Tell whether a Worker has room."""
        return self.capacity.has_room(needs, beside=self.taken, workers=self.workers)

    @property
    def can_ask(self) -> bool:
        """Tell whether any Job has something to give back."""
        return any(self.placed[job_id] > least for job_id, least in self.least.items())

    def keep(self, needs: Needs) -> None:
        """Keep what a Worker needs, that will have a place later."""
        self.taken, self.workers = plus(self.taken, needs), self.workers + 1

    def enter(self, job_id: str, needs: Needs) -> None:
        """Let a Worker have a place."""
        self.placed[job_id] += 1
        self.keep(needs)

    def make_room(self, job_id: str, needs: Needs) -> bool:
        """Have others give back what the next Worker of a Job lacks; False where nothing is asked, or no use."""
        spare = self._spare_of_others(job_id)
        taken, workers = self.taken, self.workers
        for other, count in spare.items():
            taken, workers = plus(taken, self.needs[other], times=-count), workers - count
        if not self.capacity.has_room(needs, beside=taken, workers=workers):
            return False
        while not self.has_room(needs):
            self._ask(self._next_to_give(spare, needs))
        return bool(self.given)

    def _spare_of_others(self, job_id: str) -> dict[str, int]:
        """Count what could be given back for the next Worker of a Job, by Job."""
        fair = self.placed[job_id] + 1 if self.is_spare(job_id) else 0
        others = {other: max(self.least[other], fair) for other in self.least if other != job_id}
        return {other: self.placed[other] - keeps for other, keeps in others.items() if self.placed[other] > keeps}

    def _next_to_give(self, spare: dict[str, int], needs: Needs) -> str:
        """Choose the Job with the most Workers, of those that could give what is lacking."""
        helpful = [
            other
            for other, count in spare.items()
            if count and self.capacity.is_helped(needs, beside=self.taken, workers=self.workers, by=self.needs[other])
        ]
        chosen = max(helpful, key=lambda other: (self.placed[other], other))
        spare[chosen] -= 1
        return chosen

    def _ask(self, job_id: str) -> None:
        self.given[job_id] += 1
        self.placed[job_id] -= 1
        self.taken, self.workers = plus(self.taken, self.needs[job_id], times=-1), self.workers - 1


def plus(some: Needs, others: Needs, *, times: int = 1) -> Needs:
    """Add what so many Workers need."""
    return Needs(
        millicores=some.millicores + times * others.millicores,
        mem_bytes=some.mem_bytes + times * others.mem_bytes,
        gpus=some.gpus + times * others.gpus,
    )


def is_short(needed: int, taken: int, there_is: int) -> bool:
    """Tell whether there is less than is needed beside what is taken; who needs nothing lacks nothing."""
    return needed > 0 and taken + needed > there_is
