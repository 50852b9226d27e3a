import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.lease import (
    MAX_BATCHES,
    MAX_GROWTH,
    MAX_TARGET_SECONDS,
    OPERATOR_SHARE,
    SECONDS_PER_LEASE,
    TARGET_SECONDS,
    Lease,
    Pace,
    lease_size,
    target_seconds,
    token,
)

COUNTS = st.integers(min_value=0, max_value=10**12)
WORKERS = st.integers(min_value=1, max_value=10_000)
PACES = st.builds(Pace, batches=st.integers(0, MAX_BATCHES), seconds=st.floats(allow_nan=False))


def test_a_lease_knows_how_many_batches_it_covers():
    assert Lease(token=1, worker="w", segment=0, first=3, end=8).count == 5


@given(st.tuples(st.integers(1, 2**20), st.integers(1, 2**30)), st.tuples(st.integers(1, 2**20), st.integers(1, 2**30)))
def test_a_token_is_higher_than_every_one_of_an_earlier_epoch_and_every_earlier_one_of_its_own(one, other):
    assert (one < other) == (token(*one) < token(*other))


def test_a_token_fits_into_a_word_of_the_page():
    assert token(2**23, 2**40 - 1) < 2**64


@given(COUNTS, WORKERS)
def test_a_lease_holds_one_batch_until_a_cost_is_known(open_batches, workers):
    assert lease_size(pace=None, open_batches=open_batches, workers=workers) == 1
    assert lease_size(pace=Pace(batches=0, seconds=1.0), open_batches=open_batches, workers=workers) == 1


@given(PACES, COUNTS, WORKERS)
def test_a_lease_is_never_empty_nor_over_any_of_its_bounds(pace, open_batches, workers):
    size = lease_size(pace=pace, open_batches=open_batches, workers=workers)

    assert 1 <= size <= MAX_BATCHES
    assert size <= max(1, MAX_GROWTH * pace.batches)
    seconds = size * pace.seconds / max(pace.batches, 1)
    keeps_operator_just_busy = size <= open_batches and seconds <= workers * SECONDS_PER_LEASE * 1.001
    assert size <= max(1, open_batches // (2 * workers)) or keeps_operator_just_busy
    assert size == 1 or seconds <= target_seconds(workers) * 1.001


@given(st.floats(1e-6, 10.0), st.integers(1, 10**6))
def test_leases_of_the_full_size_leave_the_operator_idle_for_most_of_the_time(batch_seconds, workers):
    pace = Pace(batches=MAX_BATCHES, seconds=MAX_BATCHES * batch_seconds)
    size = lease_size(pace=pace, open_batches=10**12, workers=workers)
    seconds = size * batch_seconds
    share = workers * SECONDS_PER_LEASE / (seconds + batch_seconds)  # a Lease holds whole Batches

    assert seconds <= MAX_TARGET_SECONDS or size == 1
    assert share <= OPERATOR_SHARE * 1.001 or target_seconds(workers) == MAX_TARGET_SECONDS or size == MAX_BATCHES


@pytest.mark.parametrize(
    ("expected", "workers"),
    [(0.1, 1), (0.1, 100), (0.3, 1000), (1.5, 5000), (2.0, 10_000), (2.0, 10**6)],
)
def test_the_work_in_a_lease_grows_with_the_number_of_workers(expected, workers):
    assert expected == pytest.approx(target_seconds(workers))


def test_what_is_left_for_thousands_of_workers_is_not_cut_smaller_than_the_operator_can_hand_out():
    pace = Pace(batches=1000, seconds=1.0)

    assert 500 == lease_size(pace=pace, open_batches=10**6, workers=5000)  # a half share would be 100
    assert 7 == lease_size(pace=pace, open_batches=7, workers=5000)


@pytest.mark.parametrize(
    ("expected", "batches", "seconds", "open_batches", "workers"),
    [
        (100, 20, 0.02, 10**6, 1),  # 1 ms a Batch: as many as fill the time
        (80, 10, 0.0001, 10**6, 1),  # cheap, but the last Lease says little
        (1, 1, 10.0, 10**6, 1),  # slow: one at a time
        (10, 100, 0.01, 40, 2),  # towards the end: half a share
        (2, 100, 0.01, 3, 2),  # ... but no less than keeps the operator busy
        (1, 100, 0.1, 3, 2),  # at the end
        (1, 100, 0.01, 1, 1),
        (MAX_BATCHES, MAX_BATCHES, 0.0, 10**9, 1),  # too fast to be measured
        (8, 1, -0.5, 10**6, 1),  # a clock that was set back
    ],
)
def test_a_lease_is_sized_by_time_and_cut_short_towards_the_end(expected, batches, seconds, open_batches, workers):
    pace = Pace(batches=batches, seconds=seconds)

    assert expected == lease_size(pace=pace, open_batches=open_batches, workers=workers)


def test_leases_reach_their_full_size_within_a_few_of_them():
    batch_seconds = 1e-5
    pace, sizes = None, []
    for _ in range(8):
        sizes.append(lease_size(pace=pace, open_batches=10**9, workers=2))
        pace = Pace(batches=sizes[-1], seconds=sizes[-1] * batch_seconds)

    assert [1, 8, 64, 512, 4096] == sizes[:5]
    assert round(TARGET_SECONDS / batch_seconds) == pytest.approx(sizes[-1], rel=0.001)
    assert all(earlier <= later for earlier, later in itertools.pairwise(sizes))
