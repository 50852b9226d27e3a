import pytest

from cortex.domain.job import MOVES, Counts, JobStatus

FINAL = {
    JobStatus.SUCCEEDED,
    JobStatus.COMPLETED_WITH_FAILURES,
    JobStatus.ENQUEUE_FAILED,
    JobStatus.WORKER_ERROR,
    JobStatus.WORKER_OOM,
    JobStatus.UNEXPECTED_ERROR,
    JobStatus.TIMED_OUT,
    JobStatus.STOPPED,
}
IN_PROGRESS = set(JobStatus) - FINAL


def reachable(start: JobStatus) -> set[JobStatus]:
    found: set[JobStatus] = set()
    waiting = [start]
    while waiting:
        for status in MOVES[waiting.pop()] - found:
            found.add(status)
            waiting.append(status)
    return found


def test_every_status_is_in_the_table_of_moves():
    assert set(JobStatus) == set(MOVES)


def test_a_final_status_has_no_way_out_and_every_other_one_has():
    assert {status for status in JobStatus if status.is_final} == FINAL
    assert {status for status in JobStatus if MOVES[status]} == IN_PROGRESS


def test_every_status_is_reached_from_a_submission():
    assert set(JobStatus) - {JobStatus.ENQUEUING} == reachable(JobStatus.ENQUEUING)


@pytest.mark.parametrize("status", sorted(set(JobStatus) - {JobStatus.RUNNING, JobStatus.PAUSED}))
def test_no_status_is_come_back_to_but_by_a_pause(status):
    assert status not in reachable(status)


def test_a_paused_job_can_only_go_on_or_end():
    assert {JobStatus.RUNNING, JobStatus.STOPPING, JobStatus.UNEXPECTED_ERROR} == MOVES[JobStatus.PAUSED]


@pytest.mark.parametrize("status", sorted(IN_PROGRESS))
def test_every_job_can_end(status):
    assert reachable(status) & FINAL


@pytest.mark.parametrize("status", sorted(IN_PROGRESS - {JobStatus.STOPPING}))
def test_every_job_in_progress_can_be_stopped(status):
    assert JobStatus.STOPPING in MOVES[status]


def test_a_job_that_is_being_stopped_ends_as_stopped_or_timed_out_unless_its_files_are_damaged():
    ways = {JobStatus.STOPPED, JobStatus.TIMED_OUT, JobStatus.UNEXPECTED_ERROR}
    assert ways == reachable(JobStatus.STOPPING)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("enqueuing", JobStatus.ENQUEUING),
        ("running", JobStatus.RUNNING),
        ("succeeded", JobStatus.SUCCEEDED),
        ("completed with failures", JobStatus.COMPLETED_WITH_FAILURES),
        ("failed while enqueuing", JobStatus.ENQUEUE_FAILED),
        ("worker error", JobStatus.WORKER_ERROR),
        ("out of memory", JobStatus.WORKER_OOM),
        ("unexpected error", JobStatus.UNEXPECTED_ERROR),
        ("paused", JobStatus.PAUSED),
        ("timed out", JobStatus.TIMED_OUT),
        ("stopped", JobStatus.STOPPED),
    ],
)
def test_a_status_has_a_text_in_the_users_words(text, status):
    assert text == status.text


def test_the_counts_add_up_to_the_total():
    assert Counts(succeeded=1, failed=2, in_flight=3, in_queue=4).total == 10
