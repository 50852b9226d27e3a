"""Stations that leave rows in a storage, at the door: heard once the rows are here, whatever becomes of them."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cortex.depositing.events import Copied, Copy, Done, Event, NotCopied
from cortex.depositing.places import RowsName
from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.operator.stations.copies import Copies
from cortex.operator.stations.door import StationConnection
from cortex.operator.stations.objects import Objects, Shared
from cortex.operator.stations.storage import Storage
from cortex.storage.pages import create_page
from cortex.storage.segments import write_segments
from scripted_station import WORKER, Heard, ScriptedStation, opened, ticket_of

JOB = WORKER.partition("-")[0]
BATCHES = [b"[" + b"1," * 50_000 + b"1]"] * 8
LEASE: Frame = {"type": "lease", "token": 5, "segment": 0, "segment_first": 0, "first": 0, "end": 8}
LARGE = b"r" * 50
WRITTEN = {"type": "written", "token": 1, "first": 0, "index_at": 0, "states": 1}


class Storing:
    """A storage of which a test says what becomes of rows."""

    root = "s3://bucket"

    def __init__(self) -> None:
        self.asked: list[Copy] = []
        self.fails = False
        self.is_asked = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def copy(self, copies: Sequence[Copy]) -> AsyncGenerator[Event, None]:
        self.asked += copies
        self.is_asked.set()
        await self.may_go_on.wait()
        for index, wanted in enumerate(copies):
            if self.fails:
                yield NotCopied(index=index, reason="it is gone")
            else:
                Path(wanted.rows).write_bytes(LARGE)
                yield Copied(index=index)
        yield Done()

    async def upload(self, *_: Any) -> AsyncGenerator[Event, None]:
        yield Done()

    async def find(self) -> list[str]:
        return []

    async def remove(self, jobs: Sequence[str]) -> Event:
        return Done()


class Stage:
    def __init__(self, data: Path) -> None:
        self.heard = Heard()
        self.storing = Storing()
        self.folder = JobFolder(data / "jobs" / JOB)
        shared = Shared.find(data, str(data))
        objects = Objects(depositing=self.storing, shared=shared, is_in_progress=lambda _: True)
        self.storage = Storage(root="", objects=objects, copies=Copies(copying=self.storing))
        self.door = ("", 0)

    async def enter(self) -> ScriptedStation:
        station = await ScriptedStation.enter(self.door, ticket_of(self.folder))
        station.introduce("worker")
        return station

    def leave_rows(self, station: ScriptedStation) -> None:
        """Have a station leave rows, and say what speaks of them."""
        name = RowsName.of(0, LARGE)
        station.say({"type": "rows_at", "offset": 0, "bytes": len(LARGE), "name": str(name)})
        station.say(WRITTEN, bytes(1))
        station.say({"peer": "worker", "type": "lease_ended", "token": 1, "finished": 1, "seconds": 0.1})

    @property
    def said(self) -> list[str]:
        return [event[2] for event in self.heard.events if event[0] == "worker says"]


Play = Callable[[Callable[[Stage], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    folder = JobFolder(tmp_path / "jobs" / JOB)
    write_segments(folder, BATCHES)
    create_page(folder, WORKER)

    def play(story: Callable[[Stage], Awaitable[None]]) -> None:
        async def whole() -> None:
            stage = Stage(tmp_path)
            async with opened(tmp_path, stage.heard, stage.storage) as stage.door:
                await story(stage)
                await stage.storage.close()

        asyncio.run(whole())

    return play


def test_what_speaks_of_rows_is_heard_when_they_are_here(play: Play) -> None:
    async def story(stage: Stage) -> None:
        station = await stage.enter()
        stage.leave_rows(station)
        station.say({"type": "beat"})
        await stage.heard.until("heard", WORKER)
        before = stage.said
        stage.storing.may_go_on.set()
        await stage.heard.until("worker says", WORKER, "lease_ended")

        assert ([], ["written", "lease_ended"]) == (before, stage.said)
        assert LARGE == stage.folder.rows(WORKER).read_bytes()

    play(story)


def test_rows_that_are_gone_are_taken_from_the_station(play: Play) -> None:
    async def story(stage: Stage) -> None:
        stage.storing.fails = True
        stage.storing.may_go_on.set()
        station = await stage.enter()
        stage.leave_rows(station)
        wanted = await station.hear("rows_wanted")
        station.say({"type": "rows", "offset": 0}, LARGE)
        station.say({"type": "rows_sent", "offset": 0})
        await stage.heard.until("worker says", WORKER, "lease_ended")

        assert {"type": "rows_wanted", "offset": 0, "bytes": 50} == wanted
        assert LARGE == stage.folder.rows(WORKER).read_bytes()
        assert "cannot be used" in stage.folder.log.read_text()

    play(story)


def test_a_station_that_is_gone_is_heard_to_the_end_if_its_rows_are_here(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        is_lost, lost = asyncio.Event(), StationConnection.connection_lost

        def connection_lost(connection: StationConnection, error: Exception | None) -> None:
            lost(connection, error)
            is_lost.set()

        monkeypatch.setattr(StationConnection, "connection_lost", connection_lost)
        station = await stage.enter()
        stage.leave_rows(station)
        await stage.storing.is_asked.wait()
        station.leave()
        await is_lost.wait()
        stage.storing.may_go_on.set()
        await stage.heard.until("worker gone", WORKER)

        assert ["written", "lease_ended"] == stage.said

    play(story)


def test_a_station_that_comes_back_repeats_what_was_not_heard(play: Play) -> None:
    async def story(stage: Stage) -> None:
        station = await stage.enter()
        stage.leave_rows(station)
        await stage.storing.is_asked.wait()
        station.leave()
        again = await stage.enter()
        await stage.heard.until("station gone", WORKER)
        lost = stage.said
        stage.storing.may_go_on.set()
        stage.leave_rows(again)
        await stage.heard.until("worker says", WORKER, "lease_ended")

        assert ([], ["written", "lease_ended"]) == (lost, stage.said)
        kinds = [event[0] for event in stage.heard.events if event[0].startswith("station")]
        assert ["station", "station gone", "station"] == kinds

    play(story)


def test_a_station_may_not_name_a_place(play: Play) -> None:
    async def story(stage: Stage) -> None:
        station = await stage.enter()
        station.say({"type": "rows_at", "offset": 0, "bytes": 50, "name": "../../../secret"})

        assert await station.is_cut_off()
        assert [] == stage.storing.asked

    play(story)


def test_a_lease_that_cannot_be_fetched_is_sent_again_with_all_that_it_is_about(play: Play) -> None:
    async def story(stage: Stage) -> None:
        station = await stage.enter()
        await stage.heard.until("worker", WORKER)
        stage.heard.workers[WORKER].send(LEASE)
        first = await station.hear("lease")
        station.say({"type": "unfetched", "token": 4, "why": "of another"})
        station.say({"type": "unfetched", "token": 5, "why": "it does not answer"})
        second = await station.hear("lease")
        stage.heard.workers[WORKER].send({**LEASE, "token": 6})
        third = await station.hear("lease")

        whole = b"".join(BATCHES)
        assert ("stored", len(whole)) == (first["payload"]["kind"], first["payload"]["bytes"])
        assert (5, "inline", whole) == (second["token"], second["payload"]["kind"], second["data"][second["index"] :])
        assert (6, "inline") == (third["token"], third["payload"]["kind"])
        assert [stage.folder.log.read_text().rstrip()[-18:]] == ["it does not answer"]

    play(story)
