"""What the Batches of a Job were charged with, as a new operator reads it."""

from dataclasses import replace
from pathlib import Path

import pytest

from cortex.domain.batch import BatchState, EntryKind
from cortex.domain.policy import OnFailedBatch, Policy, Retries
from cortex.operator.run.accounts import Accounts
from cortex.storage.memory import MemoryLedger
from job_files import append_entry, make_job, set_states
from samples import JOB

POLICY = Policy(retries=Retries(attempts=2), on_failed_batch=OnFailedBatch.ISOLATE)


@pytest.mark.parametrize(("first", "second"), [("a", "b"), ("b", "a")])
def test_of_a_batch_that_was_tried_by_two_workers_only_the_last_attempt_says_how_many_items_failed(
    tmp_path: Path, first: str, second: str
):
    folder, segments = make_job(tmp_path, 1)
    append_entry(folder, f"{JOB.id}-{first}", 0, b"{}\n" * 4, token=1, kind=EntryKind.FAILURE)
    append_entry(folder, f"{JOB.id}-{second}", 0, b"0\n1\n2\n", token=2)
    append_entry(folder, f"{JOB.id}-{second}", 0, b"{}\n", token=2, kind=EntryKind.FAILURE)
    set_states(folder, segments[0], [BatchState.FAILED_IN_PART])

    accounts = Accounts(replace(JOB, batch_size=4, item_count=4, policy=POLICY), folder, segments, MemoryLedger())

    assert {0: 1} == accounts.failed_items
    assert 2 == accounts.attempts_used(0)
