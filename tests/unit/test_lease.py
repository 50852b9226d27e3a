import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.lease import MAX_BATCHES, MAX_GROWTH, TARGET_SECONDS, Lease, Pace, lease_size, token

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
    assert size <= max(1, open_batches // (2 * workers))
    if pace.seconds > 0:
        assert size == 1 or size * pace.seconds / max(pace.batches, 1) <= TARGET_SECONDS * 1.001


@pytest.mark.parametrize(
    ("expected", "batches", "seconds", "open_batches", "workers"),
    [
        (40, 10, 0.01, 10**6, 1),  # 1 ms a Batch: as many as fill the time
        (80, 10, 0.0001, 10**6, 1),  # cheap, but the last Lease says little
        (1, 1, 10.0, 10**6, 1),  # slow: one at a time
        (10, 100, 0.01, 40, 2),  # towards the end: half a share
        (1, 100, 0.01, 3, 2),  # at the end
        (1, 100, 0.01, 1, 1),
        (MAX_BATCHES, MAX_BATCHES, 0.0, 10**9, 1),  # too fast to be measured
        (8, 1, -0.5, 10**6, 1),  # a clock that was set back
    ],
)
def test_a_lease_is_sized_by_time_and_cut_short_towards_the_end(expected, batches, seconds, open_batches, workers):
    pace = Pace(batches=batches, seconds=seconds)

    assert expected == lease_size(pace=pace, open_batches=open_batches, workers=workers)


def test_leases_reach_their_full_size_within_a_few_of_them():
    batch_seconds = 1e-6
    pace, sizes = None, []
    for _ in range(8):
        sizes.append(lease_size(pace=pace, open_batches=10**9, workers=2))
        pace = Pace(batches=sizes[-1], seconds=sizes[-1] * batch_seconds)

    assert [1, 8, 64, 512, 4096] == sizes[:5]
    assert round(TARGET_SECONDS / batch_seconds) == pytest.approx(sizes[-1], rel=0.001)
    assert all(earlier <= later for earlier, later in itertools.pairwise(sizes))
