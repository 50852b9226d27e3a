"""What a job asks for besides its dataset, as people read it. Pure: an operator's answer in, text out."""

from cortex.answers import JobFacts, JobResults, JobRetries
from cortex.domain.duration import write_duration


def job_options(status: JobFacts) -> list[tuple[str, object]]:
    """Give the names and values of what applies to a job; of defaults there is nothing to say."""
    shown: list[tuple[str, object]] = []
    if "retries" in status:
        shown.append(("retries", _retries(status["retries"])))
    if "batch_timeout" in status:
        shown.append(("batch timeout", write_duration(status["batch_timeout"])))
    if "timeout" in status:
        shown.append(("timeout", write_duration(status["timeout"])))
    if "max_failures" in status:
        shown.append(("max failures", status["max_failures"]))
    if "on_failed_batch" in status:
        shown.append(("on failed batch", status["on_failed_batch"]))
    if "results" in status:
        shown.append(("results", _results(status["results"])))
    return shown


def _retries(retries: JobRetries) -> str:
    attempts, first = retries["attempts"], retries["backoff"]
    longest = min(retries["max_backoff"], first * 2.0 ** min(attempts - 2, 64)) if attempts > 1 else first
    text = f"{attempts} {'attempt' if attempts == 1 else 'attempts'}"
    if attempts > 1:
        text += f", {write_duration(first)}" + (f" to {write_duration(longest)}" if longest > first else "") + " apart"
    if retries["no_retry"]:
        text += f"; one for {', '.join(retries['no_retry'])}"
    return text


def _results(results: JobResults) -> str:
    return f"{results['path']} ({results['format']}{', with input' if results['include_input'] else ''})"
