"""The client for programs with an event loop: the same as the other one, and gone when nobody waits for it."""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from stub_operator import StubOperator, Then, begin_chunks, cut_off, send_chunk, use

import cortex
from cortex.clients import waiting
from cortex.domain.errors import ApiNotFound, OperatorUnreachable

JOB = "69d6faf82e4660d3"
STATUS = f"GET /digits/{JOB}"
PATIENCE_SECONDS = 60


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubOperator]:
    monkeypatch.setenv("CORTEX_CLI_CONFIG_DIR", str(tmp_path / "cortex"))
    monkeypatch.delenv("CORTEX_OPERATOR_ENDPOINT", raising=False)
    monkeypatch.setattr(waiting, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(waiting, "LONGEST_PAUSE_SECONDS", 0)
    with StubOperator() as stub:
        use(stub)
        stub.api("digits")
        stub.answers["POST /digits"] = {"job_id": JOB}
        yield stub


class Silence:
    """An answer that does not come; it tells when it is asked for, and when nobody waits for it any more."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.is_asked = threading.Event()
        self.is_left = threading.Event()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        if self._chunks:
            begin_chunks(handler)
        for chunk in self._chunks:
            send_chunk(handler, chunk)
        self.is_asked.set()
        with suppress(OSError):
            handler.connection.recv(1)  # the end, once the client has hung up
        handler.close_connection = True
        self.is_left.set()


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, PATIENCE_SECONDS)


def busy_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("cortex-client")]


def test_it_has_all_that_the_other_client_has() -> None:
    for plain, other in ((cortex.Client, cortex.AsyncClient), (cortex.Job, cortex.AsyncJob)):
        names = {name for name in vars(plain) if not name.startswith("_") and not name.endswith("_blocks")}
        assert names - {"close", "address"} == {name for name in vars(other) if not name.startswith("_")} - {"aclose"}
        for name in names - {"close", "address"}:
            expected, found = (inspect.signature(getattr(kind, name)).parameters for kind in (plain, other))
            assert [str(parameter) for parameter in expected.values()] == [str(each) for each in found.values()]


def test_it_does_what_the_other_client_does(operator: StubOperator) -> None:
    running = {"job_id": JOB, "status": "status_running", "created_time": "2020-07-20T01:07:40Z"}
    succeeded = running | {"status": "status_succeeded", "end_time": "2020-07-20T01:07:41Z"}
    operator.job(running, succeeded, api="digits")
    operator.answers |= {
        f"{STATUS}/results": b"1\n2\n",
        f"{STATUS}/failures": b'{"type": "ValueError"}\n',
        f"{STATUS}/failures?items=true": b'{"batch_id": "b", "items": [3, 4]}\n',
        f"{STATUS}/manifest": b'{"kind": "job"}\n',
        f"{STATUS}/logs": b"began\nended\n",
        f"DELETE /digits/{JOB}": {"message": "stopped"},
        f"POST /digits/{JOB}/pause": {"message": "paused"},
        f"POST /digits/{JOB}/resume": {"message": "resumed"},
        f"POST /digits/{JOB}/rerun": {"job_id": "2"},
        f"{STATUS}/verify": {"is_complete": True},
        "GET /_cortex/info": {"engine": "processes"},
        "DELETE /_cortex/apis/digits": {"message": "deleting digits"},
    }
    seen: list[tuple[str, threading.Thread]] = []

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            job = await client.submit("digits", items=[1], batch_size=1)
            end = await job.wait(lambda status: seen.append((status["status"], threading.current_thread())))
            assert (JOB, "digits", succeeded) == (job.id, job.api, end)
            assert [1, 2] == [row async for row in job.results()]
            assert [3, 4] == [item async for item in job.failed_items()]
            assert ["ValueError"] == [failure["type"] async for failure in job.failures()]
            assert ["job"] == [entry["kind"] async for entry in job.manifest()]
            assert ["began", "ended"] == [line async for line in job.logs()]
            assert b"1\n2\n" == b"".join([chunk async for chunk in job.stream("results")])
            assert ["stopped", "paused", "resumed"] == [await job.stop(), await job.pause(), await job.resume()]
            assert "2" == (await job.rerun(all=True)).id
            assert {"is_complete": True} == await job.verify()
            assert JOB == (await client.job("digits", JOB)).id
            assert "processes" == (await client.info())["engine"]
            assert ["digits"] == [api["name"] for api in await client.apis()]
            assert "digits" == (await client.api("digits"))["spec"]["name"]
            assert "deleting digits" == await client.delete_api("digits")
            with pytest.raises(ApiNotFound):
                await client.submit("nosuch", items=[1], batch_size=1)

    asyncio.run(story())

    assert [(status, threading.main_thread()) for status in ("status_running", "status_succeeded")] == seen


def test_the_operator_is_looked_for_when_something_is_asked_first(
    operator: StubOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []
    connect: Callable[[str | None], cortex.Client] = cortex.client

    def find(env: str | None = None) -> cortex.Client:
        found.append(env)
        return connect(env)

    monkeypatch.setattr(cortex, "client", find)

    async def story() -> None:
        client = cortex.async_client("stub")
        assert [] == found
        await asyncio.gather(*(client.apis() for _ in range(5)))
        assert ["stub"] == found
        await client.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("what", ["status", "results", "logs", "submit", "wait"])
def test_a_call_that_is_cancelled_closes_its_connection_and_leaves_no_thread(operator: StubOperator, what: str) -> None:
    silence = Silence(b"1\n") if what in {"results", "logs"} else Silence()
    line = {"results": f"{STATUS}/results?follow=true", "logs": f"{STATUS}/logs?follow=true", "submit": "POST /digits"}
    operator.answers[line.get(what, STATUS)] = silence

    async def ask(client: cortex.AsyncClient, job: cortex.AsyncJob) -> None:
        if what == "submit":
            await client.submit("digits", items=[1], batch_size=1)
        elif what in {"results", "logs"}:
            async for each in getattr(job, what)(follow=True):
                assert each in (1, "1")
        else:
            await getattr(job, what)()

    async def story() -> None:
        client = cortex.async_client("stub")
        asking = asyncio.create_task(ask(client, await client.job("digits", JOB)))
        await until(silence.is_asked)

        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

        await until(silence.is_left)
        assert ["digits"] == [api["name"] for api in await client.apis()]  # which has not been cut
        await client.aclose()

    asyncio.run(story())
    for thread in busy_threads():
        thread.join(PATIENCE_SECONDS)

    assert [] == busy_threads()
    asked = [request.line for request in operator.requests]
    assert 1 == asked.count(line.get(what, STATUS))  # and not once more


def test_an_iteration_that_is_left_closes_its_connection(operator: StubOperator) -> None:
    silence = Silence(b"1\n2\n")
    operator.answers[f"{STATUS}/results?follow=true"] = silence

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            job = await client.job("digits", JOB)
            async for row in job.results(follow=True):
                assert 1 == row
                break
            await until(silence.is_left)

    asyncio.run(story())


def test_more_streams_than_cores_go_on_beside_each_other(operator: StubOperator) -> None:
    streams = [Silence(b"%d\n" % number) for number in range(40)]
    for number, stream in enumerate(streams):
        operator.answers[f"GET /digits/{number}/results?follow=true"] = stream

    async def first_row(client: cortex.AsyncClient, number: int) -> Any:
        job = await client.job("digits", str(number))
        rows = job.results(follow=True)
        first = await anext(rows)
        await asyncio.gather(*(until(stream.is_asked) for stream in streams))
        await rows.aclose()
        return first

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            assert list(range(40)) == await asyncio.gather(*(first_row(client, number) for number in range(40)))

    asyncio.run(story())


def test_what_goes_wrong_in_the_middle_of_a_stream_is_raised(operator: StubOperator) -> None:
    operator.answers[f"{STATUS}/results?follow=true"] = cut_off(b"1\n")

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            rows = (await client.job("digits", JOB)).results(follow=True)
            assert 1 == await anext(rows)
            with pytest.raises(OperatorUnreachable, match="went away in the middle"):
                await anext(rows)

    asyncio.run(story())


def test_a_pause_between_two_attempts_ends_with_who_waits(operator: StubOperator) -> None:
    is_lost = threading.Event()

    def lose(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        is_lost.set()

    operator.answers["POST /digits"] = Then(lose, {"job_id": JOB})

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            submitting = asyncio.create_task(client.submit("digits", items=[1], batch_size=1))
            await until(is_lost)
            submitting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitting

    asyncio.run(story())

    assert 1 == [request.line for request in operator.requests].count("POST /digits")


def test_what_a_function_for_the_progress_raises_ends_the_wait(operator: StubOperator) -> None:
    operator.job({"job_id": JOB, "status": "status_running", "created_time": "2020-07-20T01:07:40Z"}, api="digits")

    def stop(_: object) -> None:
        raise LookupError("enough")

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            with pytest.raises(LookupError, match="enough"):
                await (await client.job("digits", JOB)).wait(stop)

    asyncio.run(story())


def test_items_are_taken_while_the_loop_goes_on(operator: StubOperator) -> None:
    is_turning = threading.Event()

    def items() -> Iterator[int]:
        assert is_turning.wait(PATIENCE_SECONDS)
        yield 1

    async def story() -> None:
        async with cortex.async_client("stub") as client:
            submitting = asyncio.create_task(client.submit("digits", items=items(), batch_size=1))
            asyncio.get_running_loop().call_later(0, is_turning.set)
            await submitting

    asyncio.run(story())

    assert [1] == json.loads(operator.requests[-1].body)["item_list"]["items"]
