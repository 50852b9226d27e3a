"""Whoever waits for the end of a job is answered when it has ended, or after a while, and is forgotten when gone."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cortex.web import endpoints
from cortex.web.app import create_app

ADDRESS = "http://127.0.0.1:8888"


class OneJob:
    """An operator with one job, which ends when it is told to."""

    def __init__(self) -> None:
        self.has_ended = False
        self.waiting: list[Callable[[], None]] = []
        self.has_been_asked = asyncio.Event()
        version = SimpleNamespace(api_name="api", kind="BatchAPI", endpoint="/api", spec={})
        operator: Any = SimpleNamespace(
            deployments=SimpleNamespace(at=lambda _: (version, "1")),
            jobs=SimpleNamespace(job=self.job, watch=self.watch, unwatch=self.unwatch),
            describe_job=lambda job: {"has_ended": job.is_final},
        )
        self.app = create_app(operator, uploads=operator, addresses=[ADDRESS], about={})

    def job(self, *_: object) -> Any:
        return SimpleNamespace(id="1", is_final=self.has_ended)

    def watch(self, _: str, when_ended: Callable[[], None]) -> None:
        self.waiting.append(when_ended)
        self.has_been_asked.set()

    def unwatch(self, _: str, when_ended: Callable[[], None]) -> None:
        self.waiting.remove(when_ended)

    def end(self) -> None:
        self.has_ended = True
        for tell in self.waiting:
            tell()

    async def ask(self, wait: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url=ADDRESS) as client:
            return await client.get(f"/api/1?wait={wait}")


def test_the_answer_comes_when_the_job_has_ended() -> None:
    async def tell() -> tuple[httpx.Response, OneJob]:
        job = OneJob()
        asking = asyncio.create_task(job.ask("60"))
        await job.has_been_asked.wait()
        job.end()
        return await asking, job

    answer, job = asyncio.run(tell())

    assert {"has_ended": True} == answer.json()["job_status"]
    assert job.waiting == []


def test_of_a_job_that_has_ended_nobody_waits_for_the_end() -> None:
    async def tell() -> tuple[httpx.Response, bool]:
        job = OneJob()
        job.end()
        return await job.ask("60"), job.has_been_asked.is_set()

    answer, has_waited = asyncio.run(tell())

    assert {"has_ended": True} == answer.json()["job_status"]
    assert not has_waited


@pytest.mark.parametrize("wait", ["0.001", "61", "1e300", "inf"])
def test_the_answer_comes_after_the_time_which_is_bounded(monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    monkeypatch.setattr(endpoints, "MOST_WAIT_SECONDS", 0.01)

    async def tell() -> tuple[httpx.Response, OneJob]:
        job = OneJob()
        return await job.ask(wait), job

    answer, job = asyncio.run(tell())

    assert {"has_ended": False} == answer.json()["job_status"]
    assert job.has_been_asked.is_set()
    assert job.waiting == []


@pytest.mark.parametrize("wait", ["", "soon", "-1", "nan"])
def test_what_is_no_number_of_seconds_is_refused(wait: str) -> None:
    async def tell() -> httpx.Response:
        return await OneJob().ask(wait)

    answer = asyncio.run(tell())

    assert 400 == answer.status_code
    assert answer.json()["message"].startswith(f"wait: got `{wait}`, must be a number of seconds")


def test_a_client_that_leaves_is_waited_for_no_longer() -> None:
    async def tell() -> OneJob:
        job = OneJob()
        request = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            if (message := next(request, None)) is not None:
                return message
            await job.has_been_asked.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pass

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/api/1",
            "query_string": b"wait=60",
            "headers": [(b"host", b"127.0.0.1:8888")],
        }
        await job.app(scope, receive, send)
        return job

    assert asyncio.run(tell()).waiting == []
