"""A submitted job: how it stands, what it gave, and what can be done with it."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Literal, TypeVar

from cortex.answers import Failure, JobFacts, Verification
from cortex.clients.job_request import WorkerRange
from cortex.clients.lines import line_blocks
from cortex.clients.operator_client import OperatorClient
from cortex.clients.progress import Progress, display, is_shown
from cortex.clients.transport import Chunks
from cortex.clients.waiting import check_success, observe

Stream = Literal["results", "failures", "failed_items", "manifest", "logs"]
"""What of a job can be read while it runs, line by line."""

Value = TypeVar("Value")


class Job:
    """A job of an API. Nothing is kept here: every method asks the operator.

    All raise JobNotFound once the job is deleted, OperatorUnreachable where nobody answers, and in general a
    CortexError with the operator's own message and hint.
    """

    def __init__(self, operator: OperatorClient, endpoint: str, api: str, job_id: str) -> None:
        self.api = api
        self.id = job_id
        self.endpoint = endpoint  # of its API
        self._operator = operator

    def __repr__(self) -> str:
        return f"<Job {self.id} of {self.api}>"

    def status(self) -> JobFacts:
        """Describe the job; what does not apply to its present state is left out."""
        return self._operator.job(self.endpoint, self.id)["job_status"]

    def wait(self, progress: Progress = None, timeout: float | None = None, *, check: bool = False) -> JobFacts:
        """Wait until the job has ended, and give its last status.

        Progress is a bar on a terminal or in a notebook, and elsewhere nothing; with True lines on stderr there, with
        False nothing anywhere. A function is called with each status that is seen. The operator tells of the end, so
        that nobody asks for it again and again. One that is being started
        anew is waited for. Raises TimeoutError if the job has not ended after so many seconds (it goes on), and with
        `check` JobFailed if it has ended otherwise than `status_succeeded`.
        """
        with display(progress) as show:
            for (job,) in self.status_blocks(timeout, is_shown=is_shown(progress)):
                show(job)
        if check:
            check_success(job)
        return job

    def results(self, *, follow: bool = False) -> Generator[Any, None, None]:
        """Give the rows so far, in the order of their items; with `follow` go on until the job has ended.

        Its connection is closed when the iteration is left.
        """
        return _each(self.result_blocks(follow=follow))

    def failures(self, *, follow: bool = False) -> Generator[Failure, None, None]:
        """Give what has failed so far, with its cause; with `follow` go on until the job has ended."""
        return _each(self.failure_blocks(follow=follow))

    def failed_items(self) -> Generator[Any, None, None]:
        """Give the items that have failed so far, each as it was submitted."""
        return _each(self.failed_item_blocks())

    def manifest(self) -> Generator[dict[str, Any], None, None]:
        """Give the receipt of the job, entry by entry, each with its `kind`."""
        return _each(self.manifest_blocks())

    def logs(self, *, follow: bool = False) -> Generator[str, None, None]:
        """Give the lines of the log so far; with `follow` go on until the job has ended."""
        return _each(self.log_blocks(follow=follow))

    def stop(self) -> str:
        """Stop the job, and say so; what it has done is kept. Raises JobNotInProgress."""
        return self._operator.stop_job(self.endpoint, self.id)

    def pause(self) -> str:
        """Begin no further batch, and say so; those that run are finished. Raises Conflict where it makes no sense."""
        return self._operator.pause_job(self.endpoint, self.id)

    def resume(self) -> str:
        """Go on after a pause, and say so. Raises Conflict where it makes no sense."""
        return self._operator.resume_job(self.endpoint, self.id)

    def rerun(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the command line
        hook: bool = False,
        original: bool = False,
        workers: int | WorkerRange | None = None,
        idempotency_key: str | None = None,
    ) -> "Job":
        """Make a job of what has failed in this one, or was not begun; its results are those of both.

        With `all` every batch runs again, with `hook` only `on_job_complete`; with `original` the version of the API
        that this job ran with, which else is the deployed one. Raises Conflict where there is nothing to run again.
        """
        if all and hook:
            raise TypeError("rerun() takes `all` or `hook`, but not both")
        body = rerun_request(all=all, hook=hook, original=original, workers=workers)
        made = self._operator.rerun_job(self.endpoint, self.id, body, idempotency_key)
        return Job(self._operator, self.endpoint, self.api, made["job_id"])

    def verify(self) -> Verification:
        """Check that the results are complete and intact, as the receipt says; what is wrong is in `problems`."""
        return self._operator.verify_job(self.endpoint, self.id)

    def stream(self, what: Stream, *, follow: bool = False) -> Chunks:
        """Give what can be read as bytes, as they come: JSON lines, or the text of the log."""
        ask = self._operator
        if what == "results":
            return ask.results(self.endpoint, self.id, follow=follow)
        if what == "failures":
            return ask.failures(self.endpoint, self.id, follow=follow)
        if what == "logs":
            return ask.logs(self.endpoint, self.id, follow=follow)
        if follow:
            raise TypeError(f"`{what}` cannot be followed")
        if what == "manifest":
            return ask.manifest(self.endpoint, self.id)
        return ask.failed_items(self.endpoint, self.id)

    # The same in the blocks that come over the line together, for those who cannot take them one by one.

    def status_blocks(
        self, timeout: float | None = None, *, is_shown: bool = True
    ) -> Generator[list[JobFacts], None, None]:
        """See `wait`."""

        def look(seconds: float) -> JobFacts:
            return self._operator.job(self.endpoint, self.id, wait_seconds=seconds)["job_status"]

        yield from ([job] for job in observe(look, timeout, is_shown=is_shown))

    def result_blocks(self, *, follow: bool = False) -> Generator[list[Any], None, None]:
        """See `results`."""
        return self._blocks("results", json.loads, follow=follow)

    def failure_blocks(self, *, follow: bool = False) -> Generator[list[Failure], None, None]:
        """See `failures`."""
        return self._blocks("failures", _failure, follow=follow)

    def failed_item_blocks(self) -> Generator[list[Any], None, None]:
        """See `failed_items`."""
        for block in self._blocks("failed_items", json.loads):
            yield [item for batch in block for item in batch["items"]]

    def manifest_blocks(self) -> Generator[list[dict[str, Any]], None, None]:
        """See `manifest`."""
        return self._blocks("manifest", json.loads)

    def log_blocks(self, *, follow: bool = False) -> Generator[list[str], None, None]:
        """See `logs`."""
        return self._blocks("logs", _text, follow=follow)

    def _blocks(
        self, what: Stream, read: Callable[[bytes], Value], *, follow: bool = False
    ) -> Generator[list[Value], None, None]:
        with closing(self.stream(what, follow=follow)) as chunks:
            for block in line_blocks(chunks):
                yield [read(line) for line in block]


def rerun_request(*, all: bool, hook: bool, original: bool, workers: int | WorkerRange | None) -> bytes:  # noqa: A002 - as above
    """Write the request for a rerun; `all` and `hook` exclude each other."""
    body: dict[str, Any] = {
        "what": "all" if all else "hook" if hook else "failed",
        "version": "original" if original else "current",
    }
    return json.dumps(body if workers is None else {**body, "workers": workers}).encode()


def _each(blocks: Iterator[list[Value]]) -> Generator[Value, None, None]:
    for block in blocks:
        yield from block


def _failure(line: bytes) -> Failure:
    failure: Failure = json.loads(line)
    return failure


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
