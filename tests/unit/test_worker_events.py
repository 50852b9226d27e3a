"""What Workers say, and who is told."""

from types import SimpleNamespace
from typing import Any, cast

from cortex.operator.followers import Followers
from cortex.operator.run.job_run import JobRun
from cortex.operator.run.surroundings import Surroundings
from cortex.operator.worker_events import WorkerEvents


class Run:
    """A Job in progress that Workers talk to."""

    def __init__(self, job_id: str) -> None:
        self.job = SimpleNamespace(id=job_id)
        self.heard: list[dict[str, Any]] = []

    def worker_says(self, worker: str, frame: dict[str, Any]) -> None:
        self.heard.append({"worker": worker, **frame})


def events_of(run: Run, followers: Followers) -> WorkerEvents:
    return WorkerEvents(
        runs={run.job.id: cast("JobRun", run)},
        around=lambda: cast("Surroundings", None),
        event=lambda handle, *what, of: handle(*what),
        maybe_idle=lambda: None,
        lease_ended=followers.lease_ended,
    )


def test_those_who_follow_a_job_are_told_after_each_lease_of_it() -> None:
    run, followers, told = Run("a"), Followers(), list[int]()
    events = events_of(run, followers)
    followers.add("a", lambda: told.append(len(run.heard)))
    followers.add("b", lambda: told.append(-1))

    for kind in ("ready", "lease_ended", "hook_ended", "lease_ended"):
        events.worker_says("a-1", {"type": kind})
    events.worker_says("b-1", {"type": "lease_ended"})

    assert [2, 4] == told


def test_who_follows_no_more_is_told_no_more() -> None:
    followers, told = Followers(), list[str]()
    one, other = (lambda: told.append("one")), (lambda: told.append("other"))
    followers.add("a", one)
    followers.add("a", other)

    followers.remove("a", one)
    followers.lease_ended("a")
    followers.remove("a", other)
    followers.lease_ended("a")

    assert ["other"] == told
