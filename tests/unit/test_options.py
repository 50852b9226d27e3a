"""What a submission asks for besides its dataset: read, laid over the defaults of its API, and shown again."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cortex.configuration import JobOptions, read_configuration
from cortex.domain.errors import InvalidSubmission
from cortex.domain.job import Job
from cortex.domain.output import Output, OutputFormat
from cortex.domain.policy import MaxFailures, OnFailedBatch, Policy, Retries
from cortex.operator.status import options as described
from cortex.operator.submitting import options
from cortex.operator.submitting.options import job_defaults, with_defaults
from cortex.operator.submitting.submission import Submission, read_submission
from cortex.storage.ledger import Version
from samples import JOB

REQUEST = {"workers": 1, "item_list": {"items": [1], "batch_size": 1}}
HEAD = "- name: a\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n  job: "
DEFAULTS = """
    retries: {attempts: 3, backoff: 5s, max_backoff: 1h, no_retry: [KeyError]}
    batch_timeout: 30s
    timeout: 2h
    max_failures: 5%
    on_failed_batch: isolate
    results: {path: s3://bucket/out, format: csv, include_input: true}
"""


def read(defaults: str = "{}", **fields: Any) -> Submission:
    """Read a submission with these fields, of an API with these defaults in its cortex.yaml."""
    (api,) = read_configuration(HEAD + defaults, "cortex.yaml")
    return read_submission(json.dumps({**REQUEST, **fields}).encode(), api.model_dump(mode="json")["job"])


def job(submission: Submission) -> Job:
    return replace(JOB, policy=submission.policy, output=submission.output)


def test_nothing_is_asked_for_by_default():
    submission = read_submission(json.dumps(REQUEST).encode())

    assert Policy() == submission.policy == read().policy
    assert submission.output is None
    assert read().output is None
    assert {} == described(job(submission))


def test_every_option_is_read():
    submission = read(
        retries={"attempts": 3, "backoff": "500ms", "max_backoff": 90, "no_retry": ["ValueError", "a.B"]},
        batch_timeout="30s",
        timeout=7200,
        max_failures="5.5%",
        on_failed_batch="isolate",
        results={"path": "/data/out", "format": "csv", "include_input": True},
    )

    expected = Policy(
        retries=Retries(attempts=3, backoff_seconds=0.5, max_backoff_seconds=90.0, no_retry=("ValueError", "a.B")),
        batch_timeout_seconds=30.0,
        timeout_seconds=7200.0,
        max_failures=MaxFailures(percent=5.5),
        on_failed_batch=OnFailedBatch.ISOLATE,
    )
    assert expected == submission.policy
    assert Output(path="/data/out", format=OutputFormat.CSV, include_input=True) == submission.output


@pytest.mark.parametrize(("retries", "attempts"), [(0, 1), (2, 3), (999, 1000), ({"attempts": 1000}, 1000)])
def test_a_number_of_retries_is_what_comes_after_the_first_attempt(retries, attempts):
    assert Retries(attempts=attempts) == read(retries=retries).policy.retries


@pytest.mark.parametrize(
    ("fields", "longest"),
    [({}, 60.0), ({"backoff": "5m"}, 300.0), ({"max_backoff": "2s"}, 2.0), ({"backoff": 0, "max_backoff": 0}, 0.0)],
)
def test_the_longest_backoff_is_a_minute_if_none_is_given_and_the_first_is_no_longer(fields, longest):
    assert longest == read(retries={"attempts": 9, **fields}).policy.retries.max_backoff_seconds


@pytest.mark.parametrize("limit", [0, 10, "0%", "5%", "12.5%", "100%"])
def test_the_failures_that_are_allowed_are_shown_as_they_were_written(limit):
    assert {"max_failures": limit} == described(job(read(max_failures=limit)))


def test_what_applies_is_shown_with_durations_in_seconds_and_the_folder_of_the_job():
    expected = {
        "retries": {"attempts": 3, "backoff": 5.0, "max_backoff": 3600.0, "no_retry": ["KeyError"]},
        "batch_timeout": 30.0,
        "timeout": 7200.0,
        "max_failures": "5%",
        "on_failed_batch": "isolate",
        "results": {"path": f"s3://bucket/out/{JOB.id}", "format": "csv", "include_input": True},
    }

    assert expected == described(job(read(DEFAULTS)))


def test_a_rerun_names_the_job_that_it_goes_on_with():
    assert {"rerun_of": "0" * 16} == described(replace(JOB, rerun_of="0" * 16))


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("retries", 0, {"attempts": 1, "backoff": 5.0, "max_backoff": 3600.0, "no_retry": ["KeyError"]}),
        (
            "retries",
            {"backoff": "1s", "no_retry": []},
            {"attempts": 3, "backoff": 1.0, "max_backoff": 3600.0, "no_retry": []},
        ),
        ("batch_timeout", "1m", 60.0),
        ("timeout", 1, 1.0),
        ("max_failures", 0, 0),
        (
            "results",
            {"format": "jsonl"},
            {"path": f"s3://bucket/out/{JOB.id}", "format": "jsonl", "include_input": True},
        ),
        (
            "results",
            {"path": "/out/", "include_input": False},
            {"path": f"/out/{JOB.id}", "format": "csv", "include_input": False},
        ),
    ],
)
def test_a_submission_overrides_the_defaults_of_its_api_field_by_field(field, value, shown):
    assert {**described(job(read(DEFAULTS))), field: shown} == described(job(read(DEFAULTS, **{field: value})))


@pytest.mark.parametrize("field", sorted(JobOptions.model_fields))
def test_null_switches_a_default_off(field):
    expected = described(job(read(DEFAULTS)))
    del expected[field]

    assert expected == described(job(read(DEFAULTS, **{field: None})))


@given(
    st.dictionaries(
        st.sampled_from([*JobOptions.model_fields, "workers", "other"]),
        st.none() | st.integers() | st.text(max_size=3) | st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
    )
)
def test_what_a_request_says_is_never_lost_among_defaults(request_):
    (api,) = read_configuration(HEAD + DEFAULTS, "cortex.yaml")

    merged = with_defaults(request_, api.model_dump(mode="json")["job"])

    for name, value in request_.items():
        if isinstance(value, dict):
            assert value.items() <= merged[name].items()
        elif name != "retries":
            assert value == merged[name]


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("retries: got `-1` (integer), must be a number of further attempts (at most 999), or", {"retries": -1}),
        ("retries: got `1000` (integer), must be a number of further attempts", {"retries": 1000}),
        ("retries: got `2` (string), must be a number of further attempts", {"retries": "2"}),
        ("retries: got `true` (boolean), must be a number of further attempts", {"retries": True}),
        ("retries.attempts: is required", {"retries": {"backoff": "1s"}}),
        ("retries.attempts: got `0`, must be at least 1", {"retries": {"attempts": 0}}),
        ("retries.attempts: got `1001`, must be at most 1000", {"retries": {"attempts": 1001}}),
        ("retries.attempts: got `1.5`, must be a whole number", {"retries": {"attempts": 1.5}}),
        ("retries.backoff: got `soon`, must be a number of seconds, or text", {"retries": {"backoff": "soon"}}),
        ("retries.backoff: got `-1`, must not be negative", {"retries": {"backoff": -1}}),
        ('retries.no_retry: got `"E"`, must be a list', {"retries": {"no_retry": "E"}}),
        ("retries.no_retry[1]: got `1`, must be text", {"retries": {"no_retry": ["E", 1]}}),
        ("retries.no_retry[0]: got `a-b` (string), must be the name of an exc", {"retries": {"no_retry": ["a-b"]}}),
        ("retries.backof: unknown field; did you mean `backoff`? (allowed: attempts,", {"retries": {"backof": 1}}),
        ("retry: unknown field; did you mean `retries`?", {"retry": 1}),
        ("batch_timeout: got `0`, must be more than 0; leave it out for no limit", {"batch_timeout": 0}),
        ("timeout: got `1y`, must be a number of seconds, or text such as `500ms`, `30s`", {"timeout": "1y"}),
        ("timeout: got a list, must be a number of seconds", {"timeout": []}),
        ("timeout: got `99999d`, must be at most `36500d` (100 years)", {"timeout": "99999d"}),
        ("max_failures: got `-1` (integer), must be a number of batches (`0` for none), or a", {"max_failures": -1}),
        ("max_failures: got `101%` (string), must be a number of batches", {"max_failures": "101%"}),
        ("max_failures: got `2.5` (number), must be a number of batches", {"max_failures": 2.5}),
        ('on_failed_batch: got `"skip"`, must be `fail` or `isolate`', {"on_failed_batch": "skip"}),
        ('results: got `"/out"`, must be an object', {"results": "/out"}),
        ("results.path: is required", {"results": {}}),
        ("results.path: got `1`, must be text", {"results": {"path": 1}}),
        ("results.path: `out` is not absolute; must be s3://bucket/key", {"results": {"path": "out"}}),
        ("results.path: `ftp://` is not known; must be s3://", {"results": {"path": "ftp://a/b"}}),
        ("results.path: `upload://` is not known", {"results": {"path": f"upload://{'0a' * 16}/x"}}),
        ("results.path: `s3://` must not be followed by a user", {"results": {"path": "s3://a:b@c/"}}),
        ("results.path: `/out/{date}` holds `{`, must be one folder", {"results": {"path": "/out/{date}"}}),
        ("results.path: `//` is the root of the file system", {"results": {"path": "//"}}),
        ('results.format: got `"xml"`, must be `jsonl`, `csv` or `parquet`', {"results": {"format": "xml"}}),
        ("results.include_input: got `1`, must be `true` or `false`", {"results": {"include_input": 1}}),
    ],
)
def test_a_problem_is_named_by_its_path_with_what_was_got_and_what_is_allowed(said, fields):
    with pytest.raises(InvalidSubmission) as refused:
        read(**fields)

    assert said in refused.value.message


def test_a_backoff_that_a_default_keeps_shorter_is_refused():
    with pytest.raises(InvalidSubmission) as refused:
        read(DEFAULTS, retries={"backoff": "2h"})

    assert refused.value.message == "retries: `backoff` is `2h`, must be at most `max_backoff`, which is `1h`"


@pytest.mark.parametrize("defaults", ["{results: {path: /out, format: parquet}}", "{results: {path: /out}}"])
def test_parquet_is_refused_where_it_cannot_be_written(defaults, monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: None)

    with pytest.raises(InvalidSubmission) as refused:
        read(defaults, results={"format": "parquet"})

    assert "results.format: `parquet` needs pyarrow, which is not installed" in refused.value.message
    assert refused.value.hint == "install `cortex[parquet]` there, or choose `jsonl` or `csv`"
    assert read(defaults, results={"format": "csv"}).output == Output(path="/out", format=OutputFormat.CSV)


def test_parquet_is_taken_where_it_can_be_written(monkeypatch):
    monkeypatch.setattr(options, "find_spec", lambda name: object())

    assert (
        Output(path="/out", format=OutputFormat.PARQUET) == read(results={"path": "/out", "format": "parquet"}).output
    )


def test_a_version_that_an_earlier_release_has_deployed_has_no_defaults():
    spec = {"name": "a", "kind": "BatchAPI"}
    version = Version(
        api_id="v1", api_name="a", kind="BatchAPI", endpoint="/a", spec=spec, project_id="p", deployed_at_ns=1
    )

    assert {} == job_defaults(version)
