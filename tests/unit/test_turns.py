"""Whose turn it is, of the submissions with the same key."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request

from cortex.domain.submission_key import SubmissionKey
from cortex.web.idempotency import Turns

KEY = SubmissionKey.of("k", b"{}")
OTHER_BODY = SubmissionKey.of("k", b"[]")


class Client:
    """Who has sent a request, and waits for its answer until it leaves."""

    def __init__(self) -> None:
        self.has_left = asyncio.Event()
        self.request = Request({"type": "http", "method": "POST", "headers": []}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        await self.has_left.wait()
        return {"type": "http.disconnect"}


class Story:
    """Requests whose turns last until they are told to end."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.told: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.clients: dict[str, Client] = {}

    def ask(self, name: str, *, api: str = "api", key: SubmissionKey | None = KEY) -> "asyncio.Task[None]":
        self.ends[name] = asyncio.Event()
        self.clients[name] = Client()
        return asyncio.create_task(self._ask(name, api, key))

    async def _ask(self, name: str, api: str, key: SubmissionKey | None) -> None:
        async with self.turns.turn(self.clients[name].request, api, key):
            self.told.append(name)
            await self.ends[name].wait()
            if name == "failing":
                raise ValueError


async def settle() -> None:
    """Let everybody come as far as they can: nobody here waits for anything outside this loop."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(story: Callable[[Story], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story(Story()))


def test_the_later_ones_wait_until_the_first_is_over() -> None:
    async def story(it: Story) -> None:
        names = ["first", "second", "third"]
        tasks = [it.ask("first"), it.ask("second", key=OTHER_BODY), it.ask("third")]
        for number, name in enumerate(names, 1):
            await settle()
            assert names[:number] == it.told
            it.ends[name].set()
        await asyncio.gather(*tasks)

    play(story)


def test_one_that_fails_lets_the_next_one_go_on() -> None:
    async def story(it: Story) -> None:
        failing, second = it.ask("failing"), it.ask("second")
        await settle()
        it.ends["failing"].set()
        with pytest.raises(ValueError):  # noqa: PT011 - its own
            await failing
        it.ends["second"].set()
        await second
        assert ["failing", "second"] == it.told

    play(story)


def test_other_keys_other_apis_and_those_without_a_key_need_not_wait() -> None:
    async def story(it: Story) -> None:
        tasks = [
            it.ask("first"),
            it.ask("another key", key=SubmissionKey.of("l", b"{}")),
            it.ask("another api", api="other"),
            it.ask("no key", key=None),
            it.ask("none either", key=None),
        ]
        await settle()
        assert 5 == len(it.told)
        for end in it.ends.values():
            end.set()
        await asyncio.gather(*tasks)

    play(story)


def test_a_client_that_leaves_while_it_waits_has_no_turn() -> None:
    async def story(it: Story) -> None:
        first, leaving = it.ask("first"), it.ask("leaving")
        await settle()
        it.clients["leaving"].has_left.set()
        with pytest.raises(ClientDisconnect):
            await leaving
        it.ends["first"].set()
        await first
        assert ["first"] == it.told

    play(story)
