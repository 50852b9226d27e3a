import copy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cortex.predictor import merge_config

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
keys = st.sampled_from("abc")
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3))
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines are busy
configs = st.dictionaries(keys, values, max_size=3)


def test_maps_merge_and_everything_else_is_replaced_by_the_jobs():
    api = {"model": {"path": "a", "size": 1, "layers": [1, 2]}, "kept": True, "map": {"a": 1}, "scalar": 1}
    job = {"model": {"path": "b", "layers": [3]}, "new": None, "map": 5, "scalar": {"a": 1}}

    assert merge_config(api, job) == {
        "model": {"path": "b", "size": 1, "layers": [3]},
        "kept": True,
        "map": 5,
        "scalar": {"a": 1},
        "new": None,
    }


def test_a_job_without_config_takes_the_apis():
    assert merge_config({"a": 1}, None) == {"a": 1}


@unhurried
@given(api=configs)
def test_merging_with_nothing_or_with_itself_changes_nothing(api):
    assert merge_config(api, {}) == merge_config({}, api) == merge_config(api, api) == api


@unhurried
@given(api=configs, job=configs)
def test_the_job_wins_wherever_it_says_something(api, job):
    merged = merge_config(api, job)

    assert list(merged) == [*api, *(key for key in job if key not in api)]
    for key in merged:
        both_maps = isinstance(api.get(key), dict) and isinstance(job.get(key), dict)
        assert merged[key] == (merge_config(api[key], job[key]) if both_maps else job.get(key, api.get(key)))


@unhurried
@given(api=configs, job=configs)
def test_neither_side_is_modified_then_or_later(api, job):
    before = copy.deepcopy((api, job))

    spoil(merge_config(api, job))

    assert (api, job) == before


def spoil(value: object) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            spoil(inner)
        value.clear()
    elif isinstance(value, list):
        for inner in value:
            spoil(inner)
        value.append("spoilt")
