"""The endpoints of APIs: submit a Job, see it, read what it gave, stop it; and what describes the others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from cortex.domain.api_kind import ApiKind
from cortex.domain.errors import CortexError, InvalidRequest, MethodNotAllowed, RouteNotFound
from cortex.domain.job import Job
from cortex.enqueuing.events import Listed
from cortex.operator.operator import Operator
from cortex.operator.status import submitted
from cortex.operator.submitting.options import job_defaults
from cortex.operator.submitting.submission import Submission, read_submission
from cortex.storage.ledger import Version
from cortex.storage.small_files import is_small
from cortex.web import streams
from cortex.web.actions import ACTIONS, Actions
from cortex.web.body import Intake
from cortex.web.connections import while_connected
from cortex.web.idempotency import Turns, submission_key

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_SMALL_BYTES: Final = 64 * 1024
"""A request up to this size is handled at once; a larger one in a thread, so that nobody else waits for it."""

MOST_WAIT_SECONDS: Final = 60.0
"""How long an answer may wait for the end of a job: proxies in between do not wait much longer."""

_PASSED: Final = "validations passed"
_OUTPUTS: Final = frozenset({"results", "failures", "manifest", "logs"})

JSON_LINES: Final = "application/x-ndjson"


def endpoint_url(request: Request, version: Version) -> str:
    """Give the URL of an API, as the client of this request reaches it."""
    return str(request.base_url).rstrip("/") + version.endpoint


def describe_serving(operator: Operator, version: Version) -> dict[str, Any]:
    """Describe what an API that answers at once does: its status and metrics, or between which it splits."""
    if version.kind == ApiKind.REALTIME:
        return {**operator.serving.describe(version)}
    return {"apis": version.spec["apis"]} if version.kind == ApiKind.SPLITTER else {}


class Endpoints:
    """Serves every path that belongs to a deployed API."""

    def __init__(self, operator: Operator, intake: Intake) -> None:
        self._operator = operator
        self._intake = intake
        self._turns = Turns()
        self._recording = asyncio.Lock()
        self._actions = Actions(operator=operator, intake=self._intake, turns=self._turns)

    async def __call__(self, request: Request) -> Response:
        """Find the API, and what is asked of it."""
        version, rest = self._operator.deployments.at(request.scope["path"])
        parts = rest.split("/") if rest else []
        if version.kind != ApiKind.BATCH:
            return self._summary(request, version, parts)
        if not parts and (job_id := request.query_params.get("jobID")):
            parts = [job_id]
        if not parts:
            return await self._api(request, version)
        job = self._operator.jobs.job(version.api_name, parts[0])
        if len(parts) == 1:
            return await self._job(request, version, job)
        what = "/".join(parts[1:])
        if what in ACTIONS:
            return await self._actions.answer(request, job, what)
        if what == "verify":
            return await self._verify(request, job)
        return await self._output(request, job, what)

    def _summary(self, request: Request, version: Version, parts: list[str]) -> Response:
        """Answer what is no call: POST to the endpoint has been answered before the routes."""
        if parts or request.method == "POST":
            raise RouteNotFound(f"nothing is served below the endpoint of a {version.kind}, `{version.endpoint}`")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not allowed here: POST sends a request, GET describes the API")
        url = endpoint_url(request, version)
        return JSONResponse(
            {
                "api_name": version.api_name,
                "kind": version.kind,
                "endpoint": url,
                "message": "POST sends a request to this API: what `predict` returns is the answer",
                **describe_serving(self._operator, version),
            }
        )

    async def _api(self, request: Request, version: Version) -> Response:
        if request.method == "POST":
            return await self._submit(request, version)
        if request.method in ("GET", "HEAD"):
            jobs = self._operator.describe_jobs(version)
            url = endpoint_url(request, version)
            return JSONResponse({"api_name": version.api_name, "kind": version.kind, "endpoint": url, "jobs": jobs})
        raise MethodNotAllowed(f"{request.method} is not allowed here: GET shows the jobs, POST submits one")

    async def _job(self, request: Request, version: Version, job: Job) -> Response:
        if request.method == "DELETE":
            await self.stop(job)
            return JSONResponse({"message": f"stopped job {job.id}"})
        if request.method in ("GET", "HEAD"):
            seconds = _seconds(request, "wait")
            if seconds and not job.is_final:
                await self._until_ended(request, job, seconds)
                job = self._operator.jobs.job(version.api_name, job.id)
            status = self._operator.describe_job(job)
            return JSONResponse({"job_status": status, "endpoint": endpoint_url(request, version)})
        raise MethodNotAllowed(f"{request.method} is not allowed here: GET shows the job, DELETE stops it")

    async def _output(self, request: Request, job: Job, what: str) -> Response:
        if what not in _OUTPUTS:
            raise RouteNotFound(f"a job has no `{what}`; it has results, failures, a manifest and logs")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not allowed here: GET reads it")
        follow = is_true(request, "follow")
        if what == "logs":
            return await stream(request, streams.log(self._operator, job, follow=follow), "text/plain")
        operator = self._operator
        if what == "manifest":
            return await stream(request, streams.manifest(operator, job, follow=follow), JSON_LINES)
        failures = operator.failed_items if is_true(request, "items") else operator.failures
        read = operator.row_reader() if what == "results" else failures
        return await stream(request, streams.batches(operator, job, read, follow=follow), JSON_LINES)

    async def _verify(self, request: Request, job: Job) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not allowed here: GET checks the job")
        return JSONResponse(await while_connected(request, self._operator.verify(job)))

    async def _submit(self, request: Request, version: Version) -> Response:
        async with self._intake.body(request) as body:
            return await self._take(request, version, body)

    async def _take(self, request: Request, version: Version, body: bytes) -> Response:
        submission = await _run(body, read_submission, body, job_defaults(version))
        if is_true(request, "dryRun"):
            return await self._try_out(request, submission)
        key = await _run(body, submission_key, request, body)
        async with self._turns.turn(request, version.api_name, key):
            if key is not None and (job := self._operator.submitted_before(version.api_name, key)):
                return JSONResponse(submitted(job))
            return await self._record(request, version, replace(submission, key=key))

    async def _record(self, request: Request, version: Version, submission: Submission) -> Response:
        jobs, datasets, draining = self._operator.jobs, self._operator.datasets, self._operator.draining
        draining.refuse_if_begun()
        self._operator.check_room()
        if submission.source or submission.output:
            await while_connected(request, datasets.check_all(submission))
        job_id = jobs.new_job_id()
        try:
            write = partial(jobs.write_dataset, job_id, submission)
            dataset = None if is_small(submission.batches) else await asyncio.to_thread(write)
            if submission.source:
                source = await datasets.claim(submission.source, jobs.folder(job_id))
                submission = replace(submission, source=source)
            async with self._recording:
                await asyncio.sleep(0)  # one in a turn of the loop: who only looks does not wait for all who submit
                if dataset is None:
                    dataset = write()
                version = self._operator.deployments.api(version.api_name)  # it may have gone meanwhile
                draining.refuse_if_begun()
                job = jobs.submit(job_id, version, submission, dataset)
        except BaseException:
            jobs.discard(job_id)
            raise
        if submission.source:  # the answer does not wait for this, but nothing comes between
            asyncio.get_running_loop().call_soon(jobs.enqueue, job)
        else:  # while this is answered, a worker is started
            jobs.enqueue(job)
        return JSONResponse(submitted(job))

    async def _try_out(self, request: Request, submission: Submission) -> Response:
        """Say what a submission would process, and do nothing."""
        if submission.output:
            await while_connected(request, self._operator.datasets.check_output(submission.output))
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(await while_connected(request, self._operator.datasets.summary(submission)))
        if submission.source is None:
            return PlainTextResponse(_PASSED)
        groups = self._operator.datasets.listing(submission.source)
        # What can be wrong is mostly known with the first ones, so that the answer can still say so.
        first = await while_connected(request, _first(groups))
        return StreamingResponse(_paths(first, groups), media_type="text/plain")

    async def _until_ended(self, request: Request, job: Job, seconds: float) -> None:
        """Wait until a Job has ended, but no longer than this. Raises ClientDisconnect where the client leaves."""
        is_over = asyncio.Event()
        is_late = asyncio.get_running_loop().call_later(seconds, is_over.set)
        self._operator.jobs.watch(job.id, is_over.set)
        try:
            await while_connected(request, is_over.wait())
        finally:
            self._operator.jobs.unwatch(job.id, is_over.set)
            is_late.cancel()

    async def stop(self, job: Job) -> None:
        """Stop a Job and wait until it has stopped. Raises JobNotInProgress."""
        stopped = asyncio.Event()
        self._operator.jobs.stop(job.id, stopped.set)
        await stopped.wait()


async def _paths(first: Listed, groups: AsyncGenerator[Listed]) -> AsyncIterator[str]:
    async with aclosing(groups):
        yield "".join(f"{url}\n" for url in first.urls)
        try:
            async for group in groups:
                yield "".join(f"{url}\n" for url in group.urls)
        except CortexError as error:  # too late for its status
            yield f"error: {error}\n"
        else:
            yield _PASSED


async def _first(groups: AsyncGenerator[Listed]) -> Listed:
    return await anext(groups)


async def stream(request: Request, pieces: AsyncIterator[bytes], media_type: str) -> Response:
    """Answer with what comes bit by bit; to HEAD at once, because its client may wait for the end before it goes on.

    What is wrong with the first bit can still be said in place of an answer.
    """
    if request.method == "HEAD":
        return StreamingResponse(iter(()), media_type=media_type)
    if is_true(request, "follow"):  # the first bit may come in hours
        return StreamingResponse(pieces, media_type=media_type)
    return StreamingResponse(_all(await anext(pieces, b""), pieces), media_type=media_type)


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _run(body: bytes, function: Any, *arguments: Any) -> Any:
    if len(body) <= _SMALL_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _seconds(request: Request, name: str) -> float:
    text = request.query_params.get(name, "0")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InvalidRequest(f"{name}: got `{text[:80]}`, must be a number of seconds, such as 2.5")
    return min(seconds, MOST_WAIT_SECONDS)


def is_true(request: Request, name: str) -> bool:
    """Read a parameter that is true or false, and false where it is left out. Raises InvalidRequest."""
    text = request.query_params.get(name, "false")
    if text in _TRUE:
        return True
    if text.lower() in ("0", "f", "false", ""):
        return False
    raise InvalidRequest(f"{name}: got `{text}`, must be true or false")
