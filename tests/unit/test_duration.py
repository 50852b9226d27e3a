"""Spans of time as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.domain.duration import LONGEST_SECONDS, read_duration, write_duration


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.5, "500ms"),
        (30.0, "30s"),
        (300.0, "5m"),
        (7200.0, "2h"),
        (86400.0, "1d"),
        (1.5, "1.5s"),
        (5400.0, "1.5h"),
        (5400.0, "1h30m"),
        (93784.005, "1d2h3m4s5ms"),
        (30.0, "30"),
        (30.0, 30),
        (0.25, 0.25),
        (0.0, "0s"),
        (0.0, 0),
        (float(LONGEST_SECONDS), "36500d"),
    ],
)
def test_a_duration_is_text_with_a_unit_or_a_number_of_seconds(seconds, written):
    assert seconds == read_duration(written)


@pytest.mark.parametrize(
    "text",
    ["", " 1s", "1s ", "s", "-1s", "1h30", "1h 30m", "1h-30m", "1e3", "1 s", "1w", "1S", "٣s", "nan", ".5s", "5.s"],
)
def test_any_other_text_is_refused_with_what_is_allowed(text):
    with pytest.raises(ValueError, match="must be a number of seconds, or text such as `500ms`, `30s`") as refusal:
        read_duration(text)

    assert f"got `{text}`" in str(refusal.value)


@pytest.mark.parametrize("number", [-1, -0.5, float("nan")])
def test_a_negative_number_is_refused(number):
    with pytest.raises(ValueError, match="must not be negative"):
        read_duration(number)


@pytest.mark.parametrize("written", ["36501d", LONGEST_SECONDS + 1, 10**400, float("inf"), "9" * 30 + "d"])
def test_more_than_a_hundred_years_is_refused(written):
    with pytest.raises(ValueError, match=r"must be at most `36500d` \(100 years\)") as refusal:
        read_duration(written)

    assert len(str(refusal.value)) < 120


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("5m", 300), ("90s", 90.0), ("500ms", 0.5), ("2h", 7200), ("7d", 7 * 86400), ("0s", 0.0), ("0.00001s", 1e-5)],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(written, seconds):
    assert written == write_duration(seconds)


@given(st.floats(1e-9, LONGEST_SECONDS) | st.integers(0, LONGEST_SECONDS))
def test_what_is_written_is_read_again(seconds):
    assert seconds == read_duration(write_duration(seconds))
