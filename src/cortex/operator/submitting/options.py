"""What a Job asks for: the options of its submission, over the defaults of its API."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from cortex.configuration import JobOptions
from cortex.configuration.job_options import Results, Retries, from_shorthand
from cortex.domain.duration import read_duration
from cortex.domain.output import Output, OutputFormat
from cortex.domain.policy import MaxFailures, OnFailedBatch, Policy
from cortex.domain.policy import Retries as RetryPolicy
from cortex.storage.ledger import Version

LACKS_PARQUET = "`parquet` needs pyarrow, which is not installed where the operator runs"
PARQUET_HINT = "install `cortex[parquet]` there, or choose `jsonl` or `csv`"


def job_defaults(version: Version) -> Mapping[str, Any]:
    """Give the options that the Jobs of a version have by default; none of one that knew no such things."""
    defaults: Mapping[str, Any] = version.spec.get("job", {})
    return defaults


def with_defaults(request: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Put a request, which need not be valid, over defaults, which are.

    What it names replaces the default, and `null` switches it off; of `retries` and `results` each field for itself.
    """
    merged = dict(request)
    for name, default in defaults.items():
        given = from_shorthand(request.get(name)) if name == "retries" else request.get(name)
        if name not in request:
            merged[name] = default
        elif isinstance(default, Mapping) and isinstance(given, Mapping):
            merged[name] = {**default, **given}
    return merged


def policy_of(options: JobOptions) -> Policy:
    """Give what a Job does when something fails or takes long."""
    return Policy(
        retries=RetryPolicy() if options.retries is None else _retries(options.retries),
        batch_timeout_seconds=None if options.batch_timeout is None else read_duration(options.batch_timeout),
        timeout_seconds=None if options.timeout is None else read_duration(options.timeout),
        max_failures=None if options.max_failures is None else _max_failures(options.max_failures),
        on_failed_batch=OnFailedBatch(options.on_failed_batch or OnFailedBatch.FAIL),
    )


def output_of(results: Results | None) -> Output | None:
    """Give where the results of a Job are written besides."""
    if results is None:
        return None
    return Output(path=results.path, format=OutputFormat(results.format), include_input=results.include_input)


def can_write(results: Results | None) -> bool:
    """Tell whether what it takes to write this format is installed."""
    return results is None or results.format != "parquet" or find_spec("pyarrow") is not None


def _retries(retries: Retries) -> RetryPolicy:
    backoff = read_duration(retries.backoff)
    longest = RetryPolicy().max_backoff_seconds
    return RetryPolicy(
        attempts=retries.attempts,
        backoff_seconds=backoff,
        max_backoff_seconds=(
            max(backoff, longest) if retries.max_backoff is None else read_duration(retries.max_backoff)
        ),
        no_retry=tuple(retries.no_retry),
    )


def _max_failures(limit: int | str) -> MaxFailures:
    return MaxFailures(percent=float(limit.removesuffix("%"))) if isinstance(limit, str) else MaxFailures(count=limit)
