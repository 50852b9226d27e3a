"""The same client for programs with an event loop: it asks in threads what the other one asks."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from os import PathLike
from types import TracebackType
from typing import Any, Self, Unpack

from cortex.answers import ApiInfo, ApiSummary, Deployment, Failure, JobFacts, OperatorInfo, Verification
from cortex.clients.client import Client
from cortex.clients.job import Job, Stream
from cortex.clients.job_request import WorkerRange
from cortex.clients.progress import Progress, display, is_shown
from cortex.clients.submission import SubmitOptions
from cortex.clients.threads import Threads
from cortex.clients.waiting import check_success


class AsyncJob:
    """A job of an API; see Job. A cancelled call closes its connection."""

    def __init__(self, job: Job, threads: Threads) -> None:
        self.api = job.api
        self.id = job.id
        self.endpoint = job.endpoint
        self._job = job
        self._threads = threads

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} of {self.api}>"

    async def status(self) -> JobFacts:
        """See Job."""
        return await self._threads.run(self._job.status)

    async def wait(self, progress: Progress = None, timeout: float | None = None, *, check: bool = False) -> JobFacts:
        """See Job; a function for the progress is called in the event loop."""
        looks = self._job.status_blocks(timeout, is_shown=is_shown(progress))
        with display(progress) as show:
            async for job in self._threads.iterate(looks):
                show(job)
        if check:
            check_success(job)
        return job

    def results(self, *, follow: bool = False) -> AsyncGenerator[Any, None]:
        """See Job."""
        return self._threads.iterate(self._job.result_blocks(follow=follow))

    def failures(self, *, follow: bool = False) -> AsyncGenerator[Failure, None]:
        """See Job."""
        return self._threads.iterate(self._job.failure_blocks(follow=follow))

    def failed_items(self) -> AsyncGenerator[Any, None]:
        """See Job."""
        return self._threads.iterate(self._job.failed_item_blocks())

    def manifest(self) -> AsyncGenerator[dict[str, Any], None]:
        """See Job."""
        return self._threads.iterate(self._job.manifest_blocks())

    def logs(self, *, follow: bool = False) -> AsyncGenerator[str, None]:
        """See Job."""
        return self._threads.iterate(self._job.log_blocks(follow=follow))

    def stream(self, what: Stream, *, follow: bool = False) -> AsyncGenerator[bytes, None]:
        """See Job."""
        return self._threads.iterate([chunk] for chunk in self._job.stream(what, follow=follow))

    async def stop(self) -> str:
        """See Job."""
        return await self._threads.run(self._job.stop)

    async def pause(self) -> str:
        """See Job."""
        return await self._threads.run(self._job.pause)

    async def resume(self) -> str:
        """See Job."""
        return await self._threads.run(self._job.resume)

    async def rerun(
        self,
        *,
        all: bool = False,  # noqa: A002 - the word of the command line
        hook: bool = False,
        original: bool = False,
        workers: int | WorkerRange | None = None,
        idempotency_key: str | None = None,
    ) -> "AsyncJob":
        """See Job."""
        made = await self._threads.run(
            self._job.rerun, all=all, hook=hook, original=original, workers=workers, idempotency_key=idempotency_key
        )
        return AsyncJob(made, self._threads)

    async def verify(self) -> Verification:
        """See Job."""
        return await self._threads.run(self._job.verify)


class AsyncClient:
    """An operator; see Client. Leaving its context closes the connections.

    `connect` finds the operator, and may start it: it is called once, when something is asked first. A call that is
    cancelled closes its connection before it raises CancelledError.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._threads = Threads()

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used any more."""
        if self._client is not None:
            self._client.close()
        self._threads.close()

    async def info(self) -> OperatorInfo:
        """See Client."""
        return await self._threads.run((await self._connected()).info)

    async def deploy(
        self, config_path: str | PathLike[str] = "cortex.yaml", project: str | PathLike[str] | None = None
    ) -> list[Deployment]:
        """See Client."""
        return await self._threads.run((await self._connected()).deploy, config_path, project)

    async def apis(self) -> list[ApiSummary]:
        """See Client."""
        return await self._threads.run((await self._connected()).apis)

    async def api(self, name: str) -> ApiInfo:
        """See Client."""
        return await self._threads.run((await self._connected()).api, name)

    async def delete_api(self, name: str) -> str:
        """See Client."""
        return await self._threads.run((await self._connected()).delete_api, name)

    async def predict(
        self,
        api: str,
        payload: Any,
        *,
        content_type: str | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See Client. A call that is cancelled does not end `predict`."""
        client = await self._connected()
        return await self._threads.run(
            client.predict, api, payload, content_type=content_type, params=params, headers=headers, timeout=timeout
        )

    async def refresh(self, api: str) -> str:
        """See Client."""
        return await self._threads.run((await self._connected()).refresh, api)

    async def stream_api_logs(self, api: str, *, follow: bool = False) -> AsyncGenerator[str, None]:
        """See Client."""
        blocks = (await self._connected()).api_log_blocks(api, follow=follow)
        async with aclosing(self._threads.iterate(blocks)) as lines:
            async for line in lines:
                yield line

    async def submit(
        self,
        api: str,
        request: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[SubmitOptions],
    ) -> AsyncJob:
        """See Client; `items` are taken in a thread."""
        client = await self._connected()
        job = await self._threads.run(client.submit, api, request, idempotency_key=idempotency_key, **options)
        return AsyncJob(job, self._threads)

    async def job(self, api: str, job_id: str) -> AsyncJob:
        """See Client."""
        return AsyncJob(await self._threads.run((await self._connected()).job, api, job_id), self._threads)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None:
                self._client = await self._threads.run(self._connect)
            return self._client
