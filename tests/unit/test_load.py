"""How many requests an API has in flight, as a mean over time."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from cortex.serving.load import BUCKET_NS, InFlight

SECOND_NS = 1_000_000_000
BEGAN_AT_NS = 7 * SECOND_NS

SPANS = st.lists(st.tuples(st.integers(0, 120 * SECOND_NS), st.integers(0, 120 * SECOND_NS)), max_size=12)


def at_ns(seconds: float) -> int:
    return BEGAN_AT_NS + int(seconds * SECOND_NS)


def measured(spans: list[tuple[int, int]], *, until_ns: int) -> InFlight:
    """Tell of requests, each from one instant to another, as they begin and end."""
    in_flight = InFlight(BEGAN_AT_NS)
    changes = sorted([(min(span), 1) for span in spans] + [(max(span), -1) for span in spans])
    for since_ns, change in changes:
        if since_ns <= until_ns:
            tell = in_flight.began if change > 0 else in_flight.ended
            tell(BEGAN_AT_NS + since_ns)
    return in_flight


@given(SPANS, st.integers(0, 150 * SECOND_NS), st.integers(1, 12))
def test_the_mean_is_the_time_of_all_requests_in_the_whole_buckets_of_the_window(
    spans: list[tuple[int, int]], now_ns: int, window: int
) -> None:
    mean = measured(spans, until_ns=now_ns).mean(BEGAN_AT_NS + now_ns, window * 10)

    end_ns = now_ns - now_ns % BUCKET_NS
    start_ns = max(end_ns - window * BUCKET_NS, 0)
    if end_ns == 0:
        assert mean is None
    else:
        in_window = [max(min(max(span), end_ns) - max(min(span), start_ns), 0) for span in spans]
        assert float(Fraction(sum(in_window), end_ns - start_ns)) == mean


@given(SPANS, st.integers(0, 150 * SECOND_NS))
def test_those_that_have_begun_and_not_ended_are_counted(spans: list[tuple[int, int]], now_ns: int) -> None:
    in_flight = measured(spans, until_ns=now_ns)

    assert sum(min(span) <= now_ns < max(span) for span in spans) == in_flight.count


def test_nothing_is_known_before_the_first_bucket_is_whole() -> None:
    in_flight = InFlight(BEGAN_AT_NS)
    in_flight.began(at_ns(1))

    assert in_flight.mean(at_ns(9.999), 60) is None
    assert 0.9 == in_flight.mean(at_ns(10), 60)


def test_a_window_that_is_not_full_yet_counts_what_there_is() -> None:
    in_flight = InFlight(BEGAN_AT_NS)
    in_flight.began(at_ns(0))
    in_flight.began(at_ns(10))

    assert 1.5 == in_flight.mean(at_ns(20), 60)
    assert 2.0 == in_flight.mean(at_ns(20), 10)


def test_what_is_since_the_last_whole_bucket_does_not_count_yet() -> None:
    in_flight = InFlight(BEGAN_AT_NS)
    in_flight.began(at_ns(10))

    assert 0.0 == in_flight.mean(at_ns(19), 60)
    assert 0.5 == in_flight.mean(at_ns(20), 60)


def test_an_api_that_nobody_has_asked_for_weeks_has_no_load() -> None:
    in_flight = InFlight(BEGAN_AT_NS)
    in_flight.began(at_ns(0))
    in_flight.ended(at_ns(10))

    assert 0.0 == in_flight.mean(at_ns(21 * 24 * 60 * 60), 60)
