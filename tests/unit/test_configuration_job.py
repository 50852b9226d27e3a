"""The section `job` of a configuration: defaults for the jobs of an API."""

from typing import get_args

import pytest

from cortex.configuration import JobOptions, read_configuration
from cortex.configuration.job_options import Results
from cortex.domain.errors import InvalidConfiguration
from cortex.domain.output import OutputFormat
from cortex.domain.policy import OnFailedBatch

HEAD = "- name: a\n  kind: BatchAPI\n  predictor: {type: python, path: predictor.py}\n"

COMPLETE = """\
  job:
    retries:
      attempts: 3
      backoff: 2s
      max_backoff: 90
      no_retry: [ValueError, mymodule.Hopeless]
    batch_timeout: 30s
    timeout: 2h
    max_failures: 5%
    on_failed_batch: isolate
    results:
      path: s3://bucket/out
      format: csv
      include_input: true
"""


def job_of(text: str) -> JobOptions:
    (api,) = read_configuration(HEAD + text, "cortex.yaml")
    return api.job


def problem_of(fields: str) -> str:
    with pytest.raises(InvalidConfiguration) as refusal:
        job_of(f"  job: {{{fields}}}\n")
    return refusal.value.message.removeprefix("cortex.yaml:4: a (BatchAPI): job")


@pytest.mark.parametrize("text", ["", "  job:\n", "  job: {}\n"])
def test_nothing_is_asked_for_by_default(text):
    expected = {
        "retries": None,
        "batch_timeout": None,
        "timeout": None,
        "max_failures": None,
        "on_failed_batch": "fail",
        "results": None,
    }

    assert expected == job_of(text).model_dump()


def test_every_field_is_kept_as_it_was_written():
    expected = {
        "retries": {
            "attempts": 3,
            "backoff": "2s",
            "max_backoff": 90,
            "no_retry": ["ValueError", "mymodule.Hopeless"],
        },
        "batch_timeout": "30s",
        "timeout": "2h",
        "max_failures": "5%",
        "on_failed_batch": "isolate",
        "results": {"path": "s3://bucket/out", "format": "csv", "include_input": True},
    }

    assert expected == job_of(COMPLETE).model_dump(mode="json")


def test_a_number_of_retries_stands_for_one_attempt_more():
    retries = job_of("  job: {retries: 2}\n").retries

    assert retries is not None
    assert {"attempts": 3, "backoff": "1s", "max_backoff": None, "no_retry": []} == retries.model_dump()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("retry: 1", ".retry: unknown field; did you mean `retries`? (allowed: batch_timeout, max_failures, on_"),
        ("retries: yes", ".retries: got `true` (boolean), must be a number of further attempts (at most 999), or "),
        ("retries: -1", ".retries: got `-1` (integer), must be a number of further attempts"),
        ("retries: 1000", ".retries: got `1000` (integer), must be a number of further attempts (at most 999)"),
        ("retries: []", ".retries: got a list, must be a number of further attempts"),
        ("retries: {backoff: 1s}", ".retries.attempts: missing; it is required. How often a batch is tried"),
        ("retries: {attempts: 0}", ".retries.attempts: got `0` (integer), must be at least 1"),
        ("retries: {attempts: 1001}", ".retries.attempts: got `1001` (integer), must be at most 1000"),
        ("retries: {attempts: '2'}", ".retries.attempts: got `2` (string), must be an integer"),
        (
            "retries: {attempts: 2, backof: 1}",
            ".retries.backof: unknown field; did you mean `backoff`? (allowed: attempts",
        ),
        ("retries: {attempts: 2, backoff: soon}", ".retries.backoff: got `soon`, must be a number of seconds, or text"),
        ("retries: {attempts: 2, backoff: null}", ".retries.backoff: got `null`, must be a number of seconds, or text"),
        ("retries: {attempts: 2, backoff: -1}", ".retries.backoff: got `-1`, must not be negative"),
        ("retries: {attempts: 2, max_backoff: []}", ".retries.max_backoff: got a list, must be a number of seconds"),
        (
            "retries: {attempts: 2, backoff: 2m, max_backoff: 1m}",
            ".retries: `backoff` is `2m`, must be at most `max_backoff`, which is `1m`",
        ),
        ("retries: {attempts: 2, no_retry: E}", ".retries.no_retry: got `E` (string), must be a list"),
        ("retries: {attempts: 2, no_retry: [1]}", ".retries.no_retry.0: got `1` (integer), must be a string (quote it"),
        (
            "retries: {attempts: 2, no_retry: [Value Error]}",
            ".retries.no_retry.0: got `Value Error` (string), must be the name of an exception, such as `ValueError`",
        ),
        ("batch_timeout: 0", ".batch_timeout: got `0`, must be more than 0; leave it out for no limit"),
        ("batch_timeout: 0s", ".batch_timeout: got `0s`, must be more than 0; leave it out for no limit"),
        ("batch_timeout: yes", ".batch_timeout: got `true` (boolean), must be a number of seconds, or text"),
        (
            "timeout: 101y",
            ".timeout: got `101y`, must be a number of seconds, or text such as `500ms`, `30s`, `5m`, `2",
        ),
        ("timeout: 40000d", ".timeout: got `40000d`, must be at most `36500d` (100 years)"),
        ("max_failures: -1", ".max_failures: got `-1` (integer), must be a number of batches (`0` for none), or a sha"),
        ("max_failures: 101%", ".max_failures: got `101%` (string), must be a number of batches"),
        ("max_failures: 1.5", ".max_failures: got `1.5` (number), must be a number of batches"),
        ("max_failures: '3'", ".max_failures: got `3` (string), must be a number of batches"),
        ("max_failures: no", ".max_failures: got `false` (boolean), must be a number of batches"),
        ("on_failed_batch: isolat", ".on_failed_batch: got `isolat` (string), must be `fail` or `isolate`; did you me"),
        ("results: /out", ".results: got `/out` (string), must be a map"),
        ("results: {format: csv}", ".results.path: missing; it is required. In which folder: `s3://bucket/prefix`"),
        ("results: {path: out}", ".results.path: `out` is not absolute; must be s3://bucket/key, "),
        ("results: {path: 's3://b/*.csv'}", ".results.path: `s3://b/*.csv` holds `*`, must be one folder: results kno"),
        ("results: {path: 'file:///'}", ".results.path: `file:///` is the root of the file system, must be a folder i"),
        ("results: {path: /out, format: xml}", ".results.format: got `xml` (string), must be `jsonl`, `csv` or `parqu"),
        ("results: {path: /out, include_input: 1}", ".results.include_input: got `1` (integer), must be `true` or `fa"),
    ],
)
def test_a_mistake_is_named_with_what_was_got_and_what_is_allowed(fields, said):
    assert problem_of(fields).startswith(said)


def test_a_field_of_a_job_is_sent_home():
    with pytest.raises(InvalidConfiguration, match="retries: unknown field here; it belongs under `job`"):
        read_configuration(HEAD + "  retries: 2\n", "cortex.yaml")


@pytest.mark.parametrize("limit", ["0%", "100%", "0.5%", "33.333%", 0, 7])
def test_the_failures_that_are_allowed_are_a_number_or_a_share(limit):
    assert limit == job_of(f"  job: {{max_failures: {limit}}}\n").max_failures


def test_the_words_are_those_of_the_domain():
    formats = get_args(Results.model_fields["format"].annotation)
    (words, _) = get_args(JobOptions.model_fields["on_failed_batch"].annotation)

    assert [each.value for each in OutputFormat] == list(formats)
    assert [each.value for each in OnFailedBatch] == list(get_args(words))
