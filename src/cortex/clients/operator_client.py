"""The routes of an operator: one method for each, with the shape of its answer."""

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from secrets import token_hex
from types import TracebackType
from typing import IO, BinaryIO, Final, Self
from urllib.parse import quote, urlsplit

import urllib3

from cortex.answers import (
    ApiInfo,
    ApiSummary,
    Deployment,
    DryRun,
    Health,
    JobInfo,
    OperatorInfo,
    Pruned,
    Submitted,
    Verification,
)
from cortex.clients.calls import pause
from cortex.clients.predicting import Prediction
from cortex.clients.transport import Chunks, Transport, is_late, is_lost
from cortex.clients.uploading import form, send_file
from cortex.domain.duration import write_duration
from cortex.domain.errors import OperatorUnreachable

_UPLOADING: Final = urllib3.Timeout(connect=5.0, read=600.0)  # half a gigabyte is unpacked and checked first
_LISTING: Final = urllib3.Timeout(connect=5.0, read=3600.0)  # millions of files are listed before the answer
_SUBMIT_PAUSES_SECONDS: Final = (0.5, 4.0)  # the second is enough for an operator that is started anew


class OperatorClient:
    """One operator's routes. What they raise is said at Transport.

    `endpoint` is what the operator calls the endpoint of an API; only its path counts, so that it works from wherever
    the operator's address does.
    """

    def __init__(self, address: str, api_key: str | None = None, *, key_hint: str | None = None) -> None:
        self._transport = Transport(address, api_key, key_hint=key_hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where the operator is."""
        return self._transport.address

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def health(self) -> Health:
        """Say that the operator answers, and which version it is."""
        return self._transport.ask(Health, "GET", "/healthz")

    def info(self) -> OperatorInfo:
        """Describe the operator."""
        return self._transport.ask(OperatorInfo, "GET", "/_cortex/info")

    def deploy(self, configuration: bytes, file_name: str, project: IO[bytes]) -> list[Deployment]:
        """Deploy every API of a configuration; `file_name` is what messages about it call it."""
        headers, body = form(
            [
                ("config", file_name, "application/yaml", BytesIO(configuration)),
                ("project", "project.zip", "application/zip", project),
            ]
        )
        path = "/_cortex/deploy"
        return self._transport.ask(list[Deployment], "POST", path, body=body, headers=headers, timeout=_UPLOADING)

    def apis(self) -> list[ApiSummary]:
        """List the deployed APIs."""
        return self._transport.ask(list[ApiSummary], "GET", "/_cortex/apis")

    def api(self, name: str) -> ApiInfo:
        """Describe an API and its jobs, the newest first."""
        return self._transport.ask(ApiInfo, "GET", f"/_cortex/apis/{_segment(name)}")

    def delete_api(self, name: str) -> str:
        """Delete an API with its jobs and their history."""
        return self._message("DELETE", f"/_cortex/apis/{_segment(name)}")

    def refresh_api(self, name: str) -> str:
        """Replace all replicas of a RealtimeAPI by new ones."""
        return self._message("POST", f"/_cortex/apis/{_segment(name)}/refresh")

    def api_logs(self, name: str, *, follow: bool = False) -> Chunks:
        """Stream the log of a RealtimeAPI; with `follow` until it is deleted."""
        return self._transport.stream(f"/_cortex/apis/{_segment(name)}/logs", follow=follow)

    def predict(
        self, endpoint: str, body: bytes, headers: Mapping[str, str], *, timeout_seconds: float | None = None
    ) -> Prediction:
        """Send a request to a RealtimeAPI, and give what `predict` returned; a query may follow the endpoint."""
        parts = urlsplit(endpoint)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            return self._transport.predict(path, body=body, headers=headers, timeout_seconds=timeout_seconds)
        except OperatorUnreachable as error:
            if timeout_seconds is not None and is_late(error):
                hint = "the request is not taken back: `predict` may still run"
                message = f"no answer came within {write_duration(timeout_seconds)}"
            elif is_lost(error):
                hint = "whether `predict` ran to its end is not known; send the request again once it is back"
                message = error.message
            else:
                raise
            raise OperatorUnreachable(message, hint=hint) from error

    def prune(self, wanted: Mapping[str, object]) -> Pruned:
        """Remove what is not needed any more; `wanted` is the body of the request."""
        headers, body = {"Content-Type": "application/json"}, json.dumps(wanted).encode()
        return self._transport.ask(Pruned, "POST", "/_cortex/prune", body=body, headers=headers, timeout=_LISTING)

    def submit(self, endpoint: str, submission: bytes, key: str | None = None) -> Submitted:
        """Submit a job; once this returns, the operator has it in its ledger.

        A connection that is lost on the way is no reason to give up: it is submitted again, which makes no second job.
        The `key` does the same for a later call with the same submission; where there is none, each call makes a job.
        """
        return self._make_job(urlsplit(endpoint).path, submission, key)

    def dry_run(self, endpoint: str, submission: bytes) -> DryRun:
        """Check a submission, and count what it would work on; no job is made."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        path = f"{urlsplit(endpoint).path}?dryRun=true"
        return self._transport.ask(DryRun, "POST", path, body=submission, headers=headers, timeout=_LISTING)

    def upload(
        self, upload_id: str, name: str, file: BinaryIO, size: int, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Send a file of this size, from where an earlier attempt has come to.

        `progress` is told how many more bytes the operator has. After a lost connection it goes on, by another one;
        where that does not help for a minute, OperatorUnreachable is raised, and a later call goes on.
        """
        send_file(self._transport, upload_id, name, file, size, progress)

    def job(self, endpoint: str, job_id: str, *, wait_seconds: float = 0.0) -> JobInfo:
        """Describe a job, when it has ended or so many seconds are over; at most a minute."""
        wait = f"?wait={wait_seconds:.3f}" if wait_seconds else ""
        return self._transport.ask(JobInfo, "GET", _job_path(endpoint, job_id) + wait)

    def stop_job(self, endpoint: str, job_id: str) -> str:
        """Stop a job; what it has done is kept."""
        return self._message("DELETE", _job_path(endpoint, job_id))

    def pause_job(self, endpoint: str, job_id: str) -> str:
        """Hand out nothing more of a job; what runs is finished."""
        return self._message("POST", f"{_job_path(endpoint, job_id)}/pause")

    def resume_job(self, endpoint: str, job_id: str) -> str:
        """Go on with a job that was paused."""
        return self._message("POST", f"{_job_path(endpoint, job_id)}/resume")

    def rerun_job(self, endpoint: str, job_id: str, body: bytes, key: str | None = None) -> Submitted:
        """Make a job of what has failed in one; sent again where the connection is lost, as a submission is."""
        return self._make_job(f"{_job_path(endpoint, job_id)}/rerun", body, key)

    def results(self, endpoint: str, job_id: str, *, follow: bool = False) -> Chunks:
        """Stream the rows of a job in input order as JSON lines; with `follow` until the job has ended."""
        return self._transport.stream(f"{_job_path(endpoint, job_id)}/results", follow=follow)

    def failures(self, endpoint: str, job_id: str, *, follow: bool = False) -> Chunks:
        """Stream what has failed in a job as JSON lines; with `follow` until the job has ended."""
        return self._transport.stream(f"{_job_path(endpoint, job_id)}/failures", follow=follow)

    def failed_items(self, endpoint: str, job_id: str) -> Chunks:
        """Stream the items that have failed in a job as JSON lines."""
        return self._transport.stream(f"{_job_path(endpoint, job_id)}/failures?items=true")

    def manifest(self, endpoint: str, job_id: str) -> Chunks:
        """Stream the receipt of a job as JSON lines."""
        return self._transport.stream(f"{_job_path(endpoint, job_id)}/manifest")

    def verify_job(self, endpoint: str, job_id: str) -> Verification:
        """Check that what a job gave is all there, and as it was written."""
        return self._transport.ask(Verification, "GET", f"{_job_path(endpoint, job_id)}/verify", timeout=_LISTING)

    def logs(self, endpoint: str, job_id: str, *, follow: bool = False) -> Chunks:
        """Stream the log of a job; with `follow` until the job has ended."""
        return self._transport.stream(f"{_job_path(endpoint, job_id)}/logs", follow=follow)

    def _message(self, method: str, path: str) -> str:
        return self._transport.ask(dict[str, str], method, path)["message"]

    def _make_job(self, path: str, body: bytes, key: str | None) -> Submitted:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or token_hex(16)}
        pauses = iter(_SUBMIT_PAUSES_SECONDS)
        lost: OperatorUnreachable | None = None
        while True:
            try:
                # Its files are looked for before the answer, among millions perhaps.
                return self._transport.ask(Submitted, "POST", path, body=body, headers=headers, timeout=_LISTING)
            except OperatorUnreachable as error:
                # The job may be there then: that nobody answers any more would say less.
                lost = error if is_lost(error) else lost
                if lost is None:
                    raise
            seconds = next(pauses, None)
            if seconds is None:
                raise lost
            pause(seconds)


def _job_path(endpoint: str, job_id: str) -> str:
    return f"{urlsplit(endpoint).path.rstrip('/')}/{_segment(job_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
