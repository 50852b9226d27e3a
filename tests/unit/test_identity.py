import uuid

from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.identity import batch_id, batch_id_prefix, batch_id_suffix, job_id, job_id_before

INSTANTS = st.integers(min_value=0, max_value=2**63 - 1)
JOB_IDS = INSTANTS.map(job_id)
BATCHES = st.integers(min_value=0, max_value=2**58 - 1)


@given(INSTANTS)
def test_a_job_id_has_16_lower_case_hex_digits(created_at_ns):
    name = job_id(created_at_ns)

    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")


@given(INSTANTS, INSTANTS)
def test_newer_jobs_sort_first(one, other):
    assert (one > other) == (job_id(one) < job_id(other))


@given(st.integers(min_value=0, max_value=2**63 - 2).map(job_id))
def test_the_id_before_sorts_before_and_keeps_its_shape(name):
    before = job_id_before(name)

    assert before < name
    assert len(before) == 16
    assert int(name, 16) - 1 == int(before, 16)


@given(JOB_IDS, BATCHES)
def test_a_batch_id_is_a_uuid_of_version_8(job, batch):
    text = batch_id(job, batch)
    parsed = uuid.UUID(text)

    assert text == str(parsed)
    assert uuid.RFC_4122 == parsed.variant
    assert parsed.version == 8


@given(st.tuples(JOB_IDS, BATCHES), st.tuples(JOB_IDS, BATCHES))
def test_two_batches_have_the_same_id_only_if_they_are_the_same(one, other):
    assert (one == other) == (batch_id(*one) == batch_id(*other))


@given(JOB_IDS, BATCHES)
def test_a_worker_may_compute_the_shared_part_once(job, batch):
    assert batch_id(job, batch) == batch_id_prefix(job) + batch_id_suffix(job, batch)
