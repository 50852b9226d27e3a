"""Which of its APIs a TrafficSplitter sends a request to."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cortex.serving.splitter import Share, choose

WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=8).filter(any)


def shares(weights: list[int]) -> list[Share]:
    return [Share(name=f"api-{number}", weight=weight) for number, weight in enumerate(weights)]


@given(WEIGHTS, st.integers(1, 7))
def test_of_evenly_spread_numbers_each_api_gets_its_share_exactly(weights: list[int], rounds: int) -> None:
    number_of_draws = sum(weights) * rounds
    draws = [(draw + 0.5) / number_of_draws for draw in range(number_of_draws)]

    chosen = Counter(choose(shares(weights), number) for number in draws)

    assert {f"api-{number}": weight * rounds for number, weight in enumerate(weights) if weight} == dict(chosen)


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_an_api_without_a_weight_is_never_chosen(weights: list[int], number: float) -> None:
    chosen = choose(shares(weights), number)

    assert weights[int(chosen.removeprefix("api-"))] > 0


def test_random_numbers_split_nearly_as_the_weights_say() -> None:
    random = Random(6)  # noqa: S311 (a test that is the same each time)

    chosen = Counter(choose(shares([80, 15, 5]), random.random()) for _ in range(10_000))

    assert [80, 15, 5] == [round(chosen[f"api-{number}"] / 100) for number in range(3)]
