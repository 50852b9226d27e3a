"""A job in progress, driven event by event: above all what no real kill hits reliably."""

from pathlib import Path

import pytest

from cortex.domain.batch import HookState, Page
from cortex.domain.ending import Exit
from cortex.domain.job import JobStatus
from cortex.domain.output import Output
from job_story import JOB, Peer, Story


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


def test_a_job_goes_from_lease_to_hook_to_its_end(story: Story) -> None:
    worker, peer = story.at_the_hook()
    story.write_page(worker, Page.HOOK, HookState.SUCCEEDED)
    story.run.worker_says(worker, {"type": "hook_ended", "error": None})
    story.leave(worker)

    assert peer.said[-2:] == ["run_hook", "finish"]
    assert [job.status for job in story.ended] == [JobStatus.SUCCEEDED]


def test_a_worker_gets_no_lease_before_the_ledger_knows_its_process(story: Story) -> None:
    (worker,) = story.engine.ordered
    peer = story.ready(worker, has_hook=False)
    before = list(peer.said)
    story.started(worker)

    assert (before, peer.said) == ([], ["lease"])


def test_a_hook_that_was_recorded_but_not_said_is_said_by_the_next_operator(story: Story) -> None:
    worker, _ = story.at_the_hook()

    story.operator()
    story.started(worker)
    peer = story.ready(worker, has_hook=True)

    assert peer.said == ["run_hook"]


def test_a_hook_that_ended_while_the_operator_was_away_is_not_run_again(story: Story) -> None:
    worker, _ = story.at_the_hook()
    story.write_page(worker, Page.HOOK, HookState.SUCCEEDED)

    story.operator()
    story.started(worker)
    peer = story.ready(worker, has_hook=True)
    story.leave(worker)

    assert peer.said == ["finish"]
    assert [job.status for job in story.ended] == [JobStatus.SUCCEEDED]


@pytest.mark.parametrize(
    ("hook", "status"),
    [
        (HookState.SUCCEEDED, JobStatus.SUCCEEDED),
        (HookState.STARTED, JobStatus.WORKER_ERROR),
        (HookState.NOT_STARTED, JobStatus.WORKER_ERROR),
        (HookState.FAILED, JobStatus.WORKER_ERROR),
    ],
)
def test_a_hook_whose_worker_was_seen_to_end_is_judged_by_its_page(
    story: Story, hook: HookState, status: JobStatus
) -> None:
    worker, _ = story.at_the_hook()
    story.write_page(worker, Page.HOOK, hook)
    story.ledger.end_worker(worker)  # the last that the earlier operator wrote

    story.operator()

    assert [job.status for job in story.ended] == [status]
    assert story.engine.ordered == []


def test_nothing_is_leased_before_every_worker_of_the_earlier_operator_is_found_or_gone(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10, workers=2)
    first, second = story.engine.ordered
    for worker in (first, second):
        story.started(worker)
    story.ready(first, has_hook=False)
    held_by_second = story.ready(second, has_hook=False).heard[-1]

    story.operator()
    story.started(first)
    peer = story.ready(first, has_hook=False)
    while_missing = list(peer.said)
    story.run.worker_exited(second, Exit(status=None))

    assert (while_missing, peer.said) == ([], ["lease"])
    assert held_by_second["first"] in range(peer.heard[-1]["first"], 10)  # what the lost one held goes out again


def test_a_worker_that_was_ordered_but_not_recorded_is_stopped_by_the_next_operator(story: Story) -> None:
    (worker,) = story.engine.ordered

    story.operator()
    story.started(worker)

    assert story.engine.stopped == {worker: True}
    assert story.engine.ordered != [worker]


def test_a_late_word_about_a_lease_that_is_no_longer_held_changes_nothing(story: Story) -> None:
    (worker,) = story.engine.ordered
    story.started(worker)
    peer = story.ready(worker, has_hook=False)
    lease = peer.heard[-1]

    story.run.worker_says(worker, {"type": "lease_ended", "token": lease["token"] + 7, "finished": 1, "seconds": 1})

    assert story.run.dispatch.held_by(worker) is not None
    assert peer.said == ["lease"]


def test_the_first_workers_that_cannot_start_end_the_job(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10, workers=3)
    ordered = list(story.engine.ordered)
    for worker in ordered:
        story.started(worker)
        peer = Peer()
        story.run.worker_connected(worker, peer, {"type": "hello", "phase": "initializing", "has_hook": False})
        story.run.worker_says(worker, {"type": "init_failed", "error": "ValueError: no"})
        assert peer.said == ["end"]
        story.leave(worker, status=1)

    assert story.engine.ordered == ordered  # no endless loop
    assert [job.status for job in story.ended] == [JobStatus.WORKER_ERROR]
    assert story.ended[0].status_reason == "no worker could start: ValueError: no"


def test_a_batch_that_ends_makes_it_worth_a_try_again_to_start_workers(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10, workers=2)
    works = story.engine.ordered[0]
    story.started(works)
    peer = story.ready(works, has_hook=False)
    for _ in range(3):  # while the other is in a long batch
        story.started(story.engine.ordered[-1])
        story.leave(story.engine.ordered[-1], status=1)
    tried = len(story.engine.ordered)
    story.finish_lease(works, peer)

    assert [4, 5] == [tried, len(story.engine.ordered)]


def test_workers_that_run_out_of_memory_before_any_batch_end_the_job_with_that_reason(story: Story) -> None:
    for _ in range(3):
        worker = story.engine.ordered[-1]
        story.started(worker)
        story.run.worker_drained(worker)
        story.run.worker_exited(worker, Exit(status=-9, is_out_of_memory=True, mem_limit_bytes=2**29))

    assert [job.status for job in story.ended] == [JobStatus.WORKER_OOM]
    reason = "no worker could go on: the last one ran out of memory: it is limited to 512Mi (compute.mem)"
    assert (story.ended[0].status_reason or "").startswith(reason)


def test_a_death_that_the_job_has_got_over_is_not_its_reason_later(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10)
    worker = story.engine.ordered[-1]
    story.started(worker)
    story.leave(worker, status=7)
    worker = story.engine.ordered[-1]
    story.started(worker)
    story.finish_lease(worker, story.ready(worker, has_hook=False))
    for _ in range(3):
        worker = story.engine.ordered[-1]
        story.started(worker)
        story.leave(worker, status=9)

    assert [job.status for job in story.ended] == [JobStatus.WORKER_ERROR]
    assert "exited with code 9" in (story.ended[0].status_reason or "")


def test_a_worker_that_is_found_in_a_batch_counts_as_running(story: Story) -> None:
    (worker,) = story.engine.ordered
    story.started(worker)
    story.ready(worker, has_hook=False)

    story.operator()
    story.started(worker)  # its supervisor speaks for it

    assert story.run.roll_call().counts["running"] == 1


def test_a_stopped_job_ends_only_when_every_worker_is_gone(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10, workers=2)
    first, second = story.engine.ordered
    for worker in (first, second):
        story.started(worker)
        story.ready(worker, has_hook=False)

    story.run.stop()
    story.run.go_on()
    story.run.worker_drained(first)
    story.run.worker_drained(second)
    story.run.worker_exited(first, Exit(status=-15))
    before = list(story.ended)
    story.run.worker_exited(second, Exit(status=-15))

    assert before == []
    assert story.engine.stopped == {first: True, second: True}
    assert [job.status for job in story.ended] == [JobStatus.STOPPED]
    assert story.ledger.deaths(JOB) == []


def test_a_job_ends_when_its_results_are_written_and_not_before(tmp_path: Path) -> None:
    story = Story(tmp_path, output=Output(path="/out"))
    finish(story)
    ((ending, _, done),) = story.exported
    counts = ending.final_counts

    assert (JOB, JobStatus.SUCCEEDED, None, 2) == (ending.id, ending.status, ending.status_reason, counts.succeeded)
    assert not story.ended
    done(None)
    assert [JobStatus.SUCCEEDED] == [job.status for job in story.ended]


def test_a_job_whose_results_cannot_be_written_says_so(tmp_path: Path) -> None:
    story = Story(tmp_path, output=Output(path="/out"))
    finish(story)

    story.exported[0][-1]("there is no such bucket")

    (job,) = story.ended
    assert JobStatus.UNEXPECTED_ERROR == job.status
    assert "the results could not be written: there is no such bucket" == job.status_reason


def test_a_job_may_be_stopped_while_its_results_are_written(tmp_path: Path) -> None:
    story = Story(tmp_path, output=Output(path="/out"))
    finish(story)

    assert story.run.may_be_stopped
    story.run.stop()
    story.exported[0][-1]("given up")

    assert [JobStatus.STOPPED] == [job.status for job in story.ended]


def test_the_results_of_a_stopped_job_are_not_written(tmp_path: Path) -> None:
    story = Story(tmp_path, output=Output(path="/out"))
    (worker,) = story.engine.ordered
    story.started(worker)
    story.run.stop()
    story.run.go_on()
    story.leave(worker)

    assert [JobStatus.STOPPED] == [job.status for job in story.ended]
    assert not story.exported


def finish(story: Story) -> None:
    """Let a job without a hook do all its batches, and its worker end."""
    (worker,) = story.engine.ordered
    story.started(worker)
    peer = story.ready(worker, has_hook=False)
    while peer.said[-1] == "lease":
        story.finish_lease(worker, peer)
    story.leave(worker)


def test_a_worker_whose_end_of_lease_could_not_be_handled_at_first_gets_the_next_one(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worker,) = story.engine.ordered
    story.started(worker)
    peer = story.ready(worker, has_hook=False)

    with monkeypatch.context() as patch:
        patch.setattr("cortex.operator.run.attempts.Attempts._let_wait", fail)
        with pytest.raises(OSError, match="full"):
            story.finish_lease(worker, peer)
    before = list(peer.said)
    story.finish_lease(worker, peer)  # it is handled again

    assert (["lease"], ["lease", "lease"]) == (before, peer.said)


def fail(*_: object) -> None:
    raise OSError("the disk is full")


def test_a_worker_in_a_lease_is_not_let_go_by_a_pause_before_the_next_operator_hears_it(tmp_path: Path) -> None:
    story = Story(tmp_path, batches=10, workers=2)
    first, second = story.engine.ordered
    for worker in (first, second):
        story.started(worker)
        lease = story.ready(worker, has_hook=False).heard[-1]
        story.write_page(worker, Page.CURRENT, lease["first"] + 1)
    story.run.pause()

    story.operator()
    story.started(second)  # whose connection has not come back
    story.started(first)
    story.ready(first, has_hook=False)

    assert [first] == list(story.engine.stopped)
