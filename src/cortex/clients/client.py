"""The client of an operator: deploy APIs, submit jobs to them, or ask them."""

from collections.abc import Generator, Mapping
from contextlib import closing
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, Unpack
from urllib.parse import urlencode

from cortex.answers import ApiInfo, ApiSummary, Deployment, OperatorInfo
from cortex.clients.job import Job
from cortex.clients.lines import line_blocks
from cortex.clients.operator_client import OperatorClient
from cortex.clients.predicting import check_answers_at_once, check_takes_jobs, encode
from cortex.clients.submission import SubmitOptions, prepared
from cortex.clients.uploading import send_files
from cortex.domain.errors import ApiNotFound

_LIST: Final = "`apis()` lists the APIs that are"


class Client:
    """An operator. May be used by many threads; leaving its context closes the connections.

    Every method raises a CortexError with the operator's own message and hint: OperatorUnreachable where nobody
    answers, Unauthorized or Forbidden where the key is missing or wrong, ApiNotFound for an API that is not deployed.
    """

    def __init__(self, operator: OperatorClient) -> None:
        self._operator = operator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"

    @property
    def address(self) -> str:
        """Where the operator is."""
        return self._operator.address

    def close(self) -> None:
        """Close the connections; the next call opens them again."""
        self._operator.close()

    def info(self) -> OperatorInfo:
        """Describe the operator."""
        return self._operator.info()

    def deploy(
        self, config_path: str | PathLike[str] = "cortex.yaml", project: str | PathLike[str] | None = None
    ) -> list[Deployment]:
        """Deploy the APIs of a configuration file, and say what became of each.

        The folder of the file, or `project`, is sent, but for what its `.cortexignore` names. Raises
        InvalidConfiguration, InvalidProject and InvalidPredictor with every mistake.
        """
        # Here, because what packs projects need not be there in a worker, which deploys nothing.
        from cortex.clients.deploying import check_deployed, packed

        with packed(Path(config_path), None if project is None else Path(project)) as deployable:
            deployments = deployable.deploy(self._operator)
        check_deployed(deployments)
        return deployments

    def apis(self) -> list[ApiSummary]:
        """List the deployed APIs."""
        return self._operator.apis()

    def api(self, name: str) -> ApiInfo:
        """Describe an API and its jobs, the newest first."""
        return self._operator.api(name)

    def delete_api(self, name: str) -> str:
        """Delete an API with its jobs and their history, and say so."""
        return self._operator.delete_api(name)

    def predict(
        self,
        api: str,
        payload: Any,
        *,
        content_type: str | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send one request to a RealtimeAPI or a TrafficSplitter, and give what `predict` returned.

        A payload of bytes is sent as it is, anything else as JSON; text may be sent as it is with a `content_type` of
        its own. `params` and `headers` are what `predict` gets as `query_params` and `headers`. Text comes back as a
        string, bytes as bytes, everything else as the value that its JSON says. Raises the error that the API answers
        with, and OperatorUnreachable where it takes longer than `timeout` seconds; without one it may take as long as
        it wants.
        """
        body, of_type = encode(payload, content_type)
        found = find_api(self._operator, api, hint=_LIST)
        endpoint = check_answers_at_once(found, hint="`submit` makes a job of one item, too")["endpoint"]
        url = f"{endpoint}?{urlencode(params)}" if params else endpoint
        sent = {**(headers or {}), "Content-Type": of_type}
        return self._operator.predict(url, body, sent, timeout_seconds=timeout).value()

    def refresh(self, api: str) -> str:
        """Replace all replicas of a RealtimeAPI by new ones, and say so; the old ones answer until these are ready."""
        return self._operator.refresh_api(api)

    def stream_api_logs(self, api: str, *, follow: bool = False) -> Generator[str, None, None]:
        """Give the lines of the log of a RealtimeAPI so far; with `follow` go on until it is deleted.

        Its connection is closed when the iteration is left.
        """
        blocks = self.api_log_blocks(api, follow=follow)
        with closing(blocks):
            for block in blocks:
                yield from block

    def api_log_blocks(self, api: str, *, follow: bool) -> Generator[list[str], None, None]:
        """Give the same, as many lines at a time as have come."""
        with closing(self._operator.api_logs(api, follow=follow)) as chunks:
            for lines in line_blocks(chunks):
                yield [line.decode(errors="replace") for line in lines]

    def submit(
        self,
        api: str,
        request: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Submit a job; once this returns, it survives any crash of the operator.

        A job is described by options (see SubmitOptions), or by a whole `request` as docs/http-api.md shows it. Local
        files that the operator does not see are uploaded, and so are items too large for a request (10 MiB). A lost
        connection makes no second job; nor does a second call with the same `idempotency_key` and the same arguments,
        which gives the first job. Raises InvalidSubmission with every mistake, and IdempotencyKeyReused.
        """
        endpoint = self._endpoint(api)
        with prepared(self._operator, request, options, idempotency_key) as job:
            if job.upload is not None:
                send_files(self._operator.upload, job.upload, lambda _: None)
            submitted = self._operator.submit(endpoint, job.request, idempotency_key)
        return Job(self._operator, endpoint, api, submitted["job_id"])

    def job(self, api: str, job_id: str) -> Job:
        """Give a job by its id. Whether it is there is only found out when it is asked."""
        return Job(self._operator, self._endpoint(api), api, job_id)

    def _endpoint(self, name: str) -> str:
        found = find_api(self._operator, name, hint=_LIST)
        return check_takes_jobs(found, hint="`predict` sends it a request")["endpoint"]


def find_api(operator: OperatorClient, name: str, *, hint: str) -> ApiSummary:
    """Find an API without asking for its jobs. Raises ApiNotFound with this hint."""
    for api in operator.apis():
        if api["name"] == name:
            return api
    raise ApiNotFound(f"`{name}` is not deployed", hint=hint)
