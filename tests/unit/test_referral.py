"""While a station fetches the payload of a Lease, nothing that is said of the Lease overtakes it."""

import asyncio
import threading
import zlib
from array import array
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.frame import Frame
from cortex.files.folder import FolderFiles
from cortex.station.payloads import StoredPayloads
from cortex.station.referral import Referral

LIMIT: Frame = {"type": "limit", "id": 1, "token": 7, "limit": 3}
INDEX = array("I", [0, 4, zlib.crc32(b"[12]")]).tobytes()


class Files(FolderFiles):
    """A folder that answers when a test says so."""

    may_answer = threading.Event()

    def read_range(self, url: str, offset: int, length: int) -> bytes:
        assert self.may_answer.wait(60)
        return super().read_range(url, offset, length)


class Stage:
    def __init__(self, root: Path) -> None:
        self.stored = root / "stored"
        self.stored.write_bytes(b"[12]")
        self.begun: list[tuple[int, bytes, bytes]] = []
        self.told: list[Frame] = []
        self.changed = asyncio.Event()
        Files.may_answer.clear()
        self.referral = Referral(begin=self._begin, tell=self._tell, payloads=StoredPayloads(files=Files()))

    def _begin(self, lease: Frame, index: bytes, items: bytes) -> None:
        self.begun.append((lease["token"], index, items))
        self.changed.set()

    def _tell(self, messages: Any) -> None:
        self.told += [frame for frame, _ in messages]
        self.changed.set()

    def lease(self, token: int = 7) -> Frame:
        payload = {"kind": "stored", "pieces": [[str(self.stored), 0, 4]], "bytes": 4, "lines": False}
        return {"type": "lease", "token": token, "first": 0, "end": 1, "payload": payload}

    async def answer(self) -> None:
        Files.may_answer.set()
        await self.changed.wait()


Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    def play(story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            stage = Stage(tmp_path)
            try:
                await story(stage)
            finally:
                Files.may_answer.set()

        asyncio.run(whole())

    return play


def test_a_lease_begins_with_what_was_fetched_and_then_comes_what_was_said_of_it(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.referral.fetch(stage.lease(), INDEX)
        held = [stage.referral.holds(frame) for frame in (LIMIT, {"peer": "worker", "type": "end"})]
        before = list(stage.begun)
        await stage.answer()

        assert ([True, True], []) == (held, before)
        assert [(7, INDEX, b"[12]")] == stage.begun
        assert [LIMIT, {"peer": "worker", "type": "end"}] == stage.referral.over()
        assert not stage.referral.holds(LIMIT)

    play(story)


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "beat"},
        {"type": "end"},
        {"type": "piece"},
        {"type": "payload"},
        {"type": "rows_wanted"},
        {"peer": "supervisor", "type": "stop"},
        {"peer": "worker", "type": "lease"},
    ],
    ids=lambda frame: frame["type"],
)
def test_what_is_not_said_of_the_lease_never_waits(play: Play, frame: Frame) -> None:
    async def story(stage: Stage) -> None:
        stage.referral.fetch(stage.lease(), INDEX)

        assert not stage.referral.holds(frame)

    play(story)


def test_a_lease_that_cannot_be_fetched_is_asked_for_and_what_was_said_of_it_still_waits(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.stored.write_bytes(b"[13]")
        stage.referral.fetch(stage.lease(), INDEX)
        stage.referral.holds(LIMIT)
        await stage.answer()

        why = f"`{stage.stored}` is not what the operator has there"
        assert [{"type": "unfetched", "token": 7, "why": why}] == stage.told
        assert stage.referral.holds({**LIMIT, "id": 2})
        assert [LIMIT, {**LIMIT, "id": 2}] == stage.referral.over()

    play(story)


def test_a_lease_that_is_not_the_workers_any_more_does_not_begin(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.referral.fetch(stage.lease(7), INDEX)
        stage.referral.holds(LIMIT)
        stage.referral.forget()
        stage.referral.fetch(stage.lease(8), INDEX)
        await stage.answer()

        assert [8] == [token for token, *_ in stage.begun]
        assert [] == stage.referral.over()

    play(story)
