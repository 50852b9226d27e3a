"""What to do next for a running Job: facts in, actions out."""

from dataclasses import dataclass

from cortex.domain.job import JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the decision depends on."""

    status: JobStatus
    can_start: bool  # the environment is ready
    workers_wanted: int
    starting: int  # Workers without a predictor yet
    ready: int  # Workers with a live predictor
    first_ready: str | None  # who of them is to do what one does
    live: int  # Workers of which anything may still come, released ones included
    all_ended: bool  # no Batch is open
    has_hook: bool | None  # None: no Worker has told yet
    hook_was_started: bool
    hook_is_over: bool
    is_hopeless: bool  # no further Worker is worth a try; those that are ready go on
    unreleased: int  # Workers that have not been told to end
    surplus: int = 0  # of an elastic Job: Workers with a place that it is to give back


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Start this many Workers."""

    count: int


@dataclass(frozen=True, slots=True)
class StartHook:
    """Let this Worker run on_job_complete."""

    worker: str


@dataclass(frozen=True, slots=True)
class ReleaseWorkers:
    """Let the Workers end, but for one: there is nothing left for them to do."""

    keep: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """End the Job: nothing can happen to it any more."""


@dataclass(frozen=True, slots=True)
class ReleaseIdle:
    """Let the Workers end that are in no Batch."""


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Let so many Workers with a place end, as soon as they are in no Batch: others wait for their places."""

    count: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Withdraw so many of the Workers that wait for a place, as far as there are any: they could do nothing."""

    count: int


Action = StartWorkers | StartHook | ReleaseWorkers | ReleaseIdle | GiveBack | Withdraw | End


def decide(facts: Facts) -> list[Action]:
    """Decide what to do now. To be asked again after every event; what is under way is not asked for again."""
    if facts.status is JobStatus.STOPPING:
        return _wind_up(facts)
    if facts.status is JobStatus.PAUSED:
        return [ReleaseIdle()] if facts.unreleased else []
    cannot_start = facts.is_hopeless and not facts.ready and facts.starting == 0
    if not facts.can_start and not cannot_start:
        return []
    if not facts.all_ended:
        if cannot_start:
            return _wind_up(facts)
        return _be_as_many_as_wanted(facts)
    if facts.hook_is_over or facts.has_hook is False or cannot_start:
        return _wind_up(facts)
    if facts.hook_was_started:
        return []
    if facts.first_ready is not None:
        return [StartHook(facts.first_ready)]
    return [StartWorkers(1)] if facts.starting == 0 else []


def _be_as_many_as_wanted(facts: Facts) -> list[Action]:
    actions: list[Action] = [GiveBack(facts.surplus)] if facts.surplus else []
    missing = facts.workers_wanted - facts.starting - facts.ready
    if missing < 0:
        actions.append(Withdraw(-missing))
    elif missing > 0 and not facts.is_hopeless:
        actions.append(StartWorkers(missing))  # of those that were given back, too: they wait behind all others
    return actions


def _wind_up(facts: Facts) -> list[Action]:
    """Let the Workers end and then the Job; the last Worker last, because it says that the Job is completed."""
    if facts.live == 0:
        return [End()]
    if facts.unreleased == 0:
        return []
    if facts.first_ready is not None and facts.status is not JobStatus.STOPPING:
        if facts.unreleased > 1:
            return [ReleaseWorkers(keep=facts.first_ready)]
        if facts.live > 1:
            return []
    return [ReleaseWorkers()]
