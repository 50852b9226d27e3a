"""What the bodies of requests may have in memory, alone and together."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.requests import Request

from cortex.domain.errors import Overloaded, TooLarge
from cortex.web.body import MAX_REQUEST_BYTES, Intake


def request(*chunks: bytes) -> Request:
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    waiting = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        return next(waiting)

    return Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)  # type: ignore[arg-type]


def test_a_body_is_given_whole() -> None:
    async def read() -> bytes:
        async with Intake().body(request(b"a", b"bc", b"")) as body:
            return body

    assert asyncio.run(read()) == b"abc"


def test_bodies_that_have_no_room_beside_the_others_are_refused_until_there_is_some() -> None:
    intake = Intake(room_bytes=10)

    async def read() -> None:
        async with AsyncExitStack() as stack:
            held = await stack.enter_async_context(intake.body(request(b"12345", b"678")))
            with pytest.raises(Overloaded):
                await stack.enter_async_context(intake.body(request(b"1", b"2345", b"6")))
            assert await stack.enter_async_context(intake.body(request(b"12"))) == b"12"
            assert held == b"12345678"
        async with intake.body(request(b"1234567890")) as body:
            assert body == b"1234567890"

    asyncio.run(read())
    assert intake.room_bytes == 10


def test_a_body_that_is_too_large_is_refused_and_gives_its_room_back() -> None:
    intake = Intake()
    room_bytes = intake.room_bytes

    async def read() -> None:
        async with intake.body(request(*[b"x" * 2**20] * 11)):
            pass

    with pytest.raises(TooLarge, match=str(MAX_REQUEST_BYTES)):
        asyncio.run(read())
    assert room_bytes == intake.room_bytes
