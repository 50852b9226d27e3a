import uuid

from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.identity import batch_id, batch_ids, job_id, job_id_before

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


@given(JOB_IDS, st.lists(BATCHES))
def test_what_names_the_batches_of_a_job_names_each_as_it_is_named_alone(job, batches):
    name = batch_ids(job)

    assert [batch_id(job, batch) for batch in batches] == [name(batch) for batch in batches]


def test_the_name_of_a_batch_holds_its_job_and_its_number():
    assert batch_id("67160ace060e3bfa", 0) == "67160ace-060e-83bf-a800-000000000000"
    assert batch_id("67160ace060e3bfa", 2**50 + 255) == "67160ace-060e-83bf-a804-0000000000ff"
