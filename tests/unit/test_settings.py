"""The options of an operator."""

from datetime import timedelta
from pathlib import Path

import pytest

from cortex.domain.errors import StartRefused
from cortex.domain.retention import KeepJobs
from cortex.settings import (
    Settings,
    parse_channel_address,
    parse_keep_jobs,
    parse_log_sink,
    parse_size,
    parse_storage,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 256_000_000), ("1000", 1000), ("1.5G", 1_500_000_000), ("256 MiB", 2**28), ("2gib", 2**31), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 apple", "1e9", "1.MB", "٣MB", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("30d,1000", KeepJobs(age=timedelta(days=30), count=1000)),
        ("1000, 30d", KeepJobs(age=timedelta(days=30), count=1000)),
        ("12h", KeepJobs(age=timedelta(hours=12))),
        ("90s", KeepJobs(age=timedelta(seconds=90))),
        ("5m", KeepJobs(age=timedelta(minutes=5))),
        ("2W", KeepJobs(age=timedelta(weeks=2))),
        ("500", KeepJobs(count=500)),
        ("all", KeepJobs()),
    ],
)
def test_how_long_jobs_are_kept(text: str, kept: KeepJobs) -> None:
    assert parse_keep_jobs(text) == kept


@pytest.mark.parametrize(
    "text", ["", ",", "0", "0d", "-1", "1y", "1.5d", "30d,", "30d,7d", "1,2", "all,3", "d", "999999999w", "30 d", "٣"]
)
def test_what_does_not_say_how_long_jobs_are_kept_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="--keep-jobs") as refused:
        parse_keep_jobs(text)

    assert "30d,1000" in str(refused.value.hint)


def test_thirty_days_and_a_thousand_of_each_api_are_kept_by_default() -> None:
    assert Settings(data_dir=Path()).keep_jobs == KeepJobs(age=timedelta(days=30), count=1000)


@pytest.mark.parametrize("text", ["stdout", "s3://bucket", "s3://bucket/a/b/", "file:///var/log", "gs://b/c", "az://c"])
def test_places_for_logs(text: str) -> None:
    assert parse_log_sink(text) == text


@pytest.mark.parametrize(
    "text", ["stderr", "s3://", "s3:///a", "file://", "logs", "/var/log", "https://a/b", "file:///"]
)
def test_what_is_no_place_for_logs_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="--log-sink") as refused:
        parse_log_sink(text)

    assert "s3://bucket/prefix" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("storage", "text"),
    [
        ({"kind": "object", "url": "s3://bucket"}, "s3://bucket"),
        ({"kind": "object", "url": "s3://bucket/a/b"}, "s3://bucket/a/b/"),
        ({"kind": "directory", "path": "/shared/cortex"}, "/shared/cortex"),
        ({"kind": "directory", "path": "/shared"}, "file:///shared/"),
    ],
)
def test_places_that_all_machines_reach(storage: dict[str, str], text: str) -> None:
    assert storage == parse_storage(text)


@pytest.mark.parametrize("text", ["", "shared", "s3://", "https://a/b", "file://shared", "./shared"])
def test_what_other_machines_cannot_reach_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="--storage") as refused:
        parse_storage(text)

    assert "s3://bucket/prefix" in str(refused.value.hint)


@pytest.mark.parametrize("text", ["operator.cortex.svc", "10.0.0.5:8889", "[fd00::1]:8889", "host:65535"])
def test_addresses_that_workers_are_told(text: str) -> None:
    assert text == parse_channel_address(text)


@pytest.mark.parametrize("text", ["", "http://a", "a:", "a:0", "a:65536", "a:b", "a b", "a/b"])
def test_what_is_no_address_for_workers_is_refused(text: str) -> None:
    with pytest.raises(StartRefused, match="--channel-address"):
        parse_channel_address(text)
