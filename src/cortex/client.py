"""Ask an operator over HTTP: one method for each of its routes."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, NotRequired, Self, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from cortex import __version__
from cortex.domain.errors import CortexError, OperatorUnreachable

_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_UPLOADING = httpx.Timeout(600.0, connect=5.0)  # half a gigabyte is unpacked and checked before the answer
_FOLLOWING = httpx.Timeout(60.0, connect=5.0, read=None)  # a quiet job may say nothing for hours


Answer = TypeVar("Answer")


class Health(TypedDict):
    """GET /healthz"""

    status: str
    version: str


class Machine(TypedDict):
    """What the operator's machine has."""

    cpu: float
    mem: int


class OperatorInfo(TypedDict):
    """GET /_cortex/info"""

    version: str
    engine: str
    data_dir: str
    address: str
    started_time: str
    machine: Machine
    apis: int
    jobs_in_progress: int


class DeployedApi(TypedDict):
    """An API as a deployment names it."""

    name: str
    kind: str
    endpoint: str
    api_id: str


class Deployment(TypedDict):
    """What became of one API of a configuration."""

    api: DeployedApi
    message: str
    error: str


class LatestJob(TypedDict):
    """The newest job of an API."""

    job_id: str
    created_time: str


class ApiSummary(DeployedApi):
    """One entry of GET /_cortex/apis"""

    last_updated: str
    running_jobs: int
    latest_job: LatestJob | None


class BatchMetrics(TypedDict):
    """How the batches of a job ended so far."""

    succeeded: int
    failed: int
    avg_time_per_batch: NotRequired[float]


class WorkerCounts(TypedDict, total=False):
    """The workers of a running job."""

    pending: int
    initializing: int
    running: int
    succeeded: int
    failed: int
    stalled: int


class JobFacts(TypedDict):
    """A job; what does not apply to its present state is left out."""

    job_id: str
    api_name: str
    workers: int
    batches_per_worker: NotRequired[int]
    config: NotRequired[dict[str, Any] | None]
    api_id: str
    sqs_url: NotRequired[str]
    status: str
    status_reason: NotRequired[str]
    total_batch_count: NotRequired[int]
    batches_in_queue: NotRequired[int]
    batches_in_flight: NotRequired[int]
    batch_metrics: NotRequired[BatchMetrics]
    worker_counts: NotRequired[WorkerCounts]
    created_time: str
    start_time: NotRequired[str]
    end_time: NotRequired[str]


class BuiltEnvironment(TypedDict):
    """The environment of an API's requirements: none, pending, building, ready or failed."""

    status: str
    message: str


class ApiInfo(TypedDict):
    """GET /_cortex/apis/NAME"""

    spec: dict[str, Any]
    api_id: str
    endpoint: str
    last_updated: str
    environment: BuiltEnvironment
    job_statuses: list[JobFacts]


class JobInfo(TypedDict):
    """GET ENDPOINT/ID"""

    job_status: JobFacts
    endpoint: str


class Submitted(TypedDict):
    """The answer to a submission."""

    job_id: str
    api_name: str
    workers: int
    config: NotRequired[dict[str, Any] | None]
    api_id: str
    sqs_url: str
    total_batch_count: NotRequired[int]
    created_time: str


class OperatorClient:
    """One operator's routes.

    Every method raises OperatorUnreachable where nobody answers, and otherwise the error that the operator names, with
    its message unchanged. `endpoint` is what the operator calls the endpoint of an API; only its path counts, so that
    it works from wherever the operator's address does.
    """

    def __init__(self, address: str, api_key: str | None = None) -> None:
        self.address = address.rstrip("/")
        headers = {"User-Agent": f"cortex/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx.Client(
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=not _is_loopback(self.address),  # a company's HTTP proxy does not know this machine's loopback
            verify=self.address.startswith("https:"),  # reading the certificate store takes longer than most requests
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> Health:
        """Say that the operator answers, and which version it is."""
        return self._ask(Health, "GET", "/healthz")

    def info(self) -> OperatorInfo:
        """Describe the operator."""
        return self._ask(OperatorInfo, "GET", "/_cortex/info")

    def deploy(self, configuration: bytes, file_name: str, project: IO[bytes]) -> list[Deployment]:
        """Deploy every API of a configuration; `file_name` is what messages about it call it."""
        files = {
            "config": (file_name, configuration, "application/yaml"),
            "project": ("project.zip", project, "application/zip"),
        }
        return self._ask(list[Deployment], "POST", "/_cortex/deploy", files=files, timeout=_UPLOADING)

    def apis(self) -> list[ApiSummary]:
        """List the deployed APIs."""
        return self._ask(list[ApiSummary], "GET", "/_cortex/apis")

    def api(self, name: str) -> ApiInfo:
        """Describe an API and its jobs, the newest first."""
        return self._ask(ApiInfo, "GET", f"/_cortex/apis/{_segment(name)}")

    def delete_api(self, name: str) -> str:
        """Delete an API with its jobs and their history."""
        return self._message("DELETE", f"/_cortex/apis/{_segment(name)}")

    def submit(self, endpoint: str, submission: bytes) -> Submitted:
        """Submit a job; once this returns, the operator has it in its ledger."""
        headers = {"Content-Type": "application/json"}
        return self._ask(Submitted, "POST", urlsplit(endpoint).path, content=submission, headers=headers)

    def job(self, endpoint: str, job_id: str) -> JobInfo:
        """Describe a job."""
        return self._ask(JobInfo, "GET", _job_path(endpoint, job_id))

    def stop_job(self, endpoint: str, job_id: str) -> str:
        """Stop a job; what it has done is kept."""
        return self._message("DELETE", _job_path(endpoint, job_id))

    def results(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the rows of a job in input order as JSON lines; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/results", follow=follow)

    def failures(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the failed batches of a job as JSON lines; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/failures", follow=follow)

    def logs(self, endpoint: str, job_id: str, *, follow: bool = False) -> Iterator[bytes]:
        """Stream the log of a job; with `follow` until the job has ended."""
        return self._stream(f"{_job_path(endpoint, job_id)}/logs", follow=follow)

    def _message(self, method: str, path: str) -> str:
        return self._ask(dict[str, str], method, path)["message"]

    def _ask(self, _shape: type[Answer], method: str, path: str, **request: Any) -> Answer:
        with self._translated_errors():
            response = self._http.request(method, self._url(path), **request)
        if not response.is_success:
            raise self._refusal(response)
        try:
            answer: Answer = response.json()
        except ValueError:
            raise self._stranger(response) from None
        return answer

    def _stream(self, path: str, *, follow: bool) -> Iterator[bytes]:
        parameters = {"follow": "true"} if follow else {}
        timeout = _FOLLOWING if follow else _TIMEOUT
        with (
            self._translated_errors(),
            self._http.stream("GET", self._url(path), params=parameters, timeout=timeout) as response,
        ):
            if not response.is_success:
                response.read()
                raise self._refusal(response)
            yield from response.iter_bytes()

    def _url(self, path: str) -> httpx.URL:
        if path.startswith(("/_cortex/", "/healthz")):
            return httpx.URL(self.address + path)
        return httpx.URL(self.address).join(path)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise OperatorUnreachable(
                f"no operator answers at `{self.address}` ({error})",
                hint="check that it runs there; `cortex env list` shows the address of every environment",
            ) from error
        except httpx.TimeoutException as error:
            raise OperatorUnreachable(f"the operator at `{self.address}` took too long to answer") from error
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise OperatorUnreachable(
                f"the operator at `{self.address}` went away in the middle of its answer",
                hint="what it has accepted is safe; run the command again once it is back",
            ) from error
        except httpx.RequestError as error:
            raise OperatorUnreachable(f"the operator at `{self.address}` cannot be asked: {error}") from error

    def _refusal(self, response: httpx.Response) -> CortexError:
        try:
            body = response.json()
            kind, message = str(body["kind"]), str(body["message"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(response)
        return _errors_by_code().get(kind, CortexError)(message)

    def _stranger(self, response: httpx.Response) -> CortexError:
        return CortexError(
            f"`{response.url}` answered {response.status_code} {response.reason_phrase}, and not as an operator does",
            hint=f"check that `{self.address}` is the address of a cortex operator",
        )


def _job_path(endpoint: str, job_id: str) -> str:
    return f"{urlsplit(endpoint).path.rstrip('/')}/{_segment(job_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _errors_by_code() -> dict[str, type[CortexError]]:
    found: dict[str, type[CortexError]] = {}
    waiting = [CortexError]
    while waiting:
        error = waiting.pop()
        found[error.code] = error
        waiting.extend(error.__subclasses__())
    return found
