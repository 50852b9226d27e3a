"""Streams of results: while their job goes on, and when it is removed meanwhile."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cortex.domain.errors import ApiNotFound, DataDamaged
from cortex.domain.job import Job
from cortex.domain.layout import ApiFolder, JobFolder
from cortex.operator.followers import Followers
from cortex.operator.operator import Operator
from cortex.storage.files import remove_at_once
from cortex.web import streams
from cortex.web.streams import while_there
from job_files import job_of, make_job


def rows(root: Path) -> Iterator[bytes]:
    for number in range(3):
        yield (root / f"{number}").read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "job"
    root.mkdir()
    for number in range(3):
        (root / f"{number}").write_bytes(b"row")
    return root


def test_a_stream_ends_when_its_job_is_removed(root: Path) -> None:
    stream = while_there(root, rows(root))
    first = next(stream)

    remove_at_once([root])

    assert first == b"row"
    assert list(stream) == []
    assert list(root.parent.iterdir()) == []


def test_a_stream_of_a_job_that_is_there_does_not_hide_what_is_missing(root: Path) -> None:
    (root / "2").unlink()

    with pytest.raises(DataDamaged, match="No such file"):
        list(while_there(root, rows(root)))


class CountedFollowers(Followers):
    """Knows how many there are."""

    count = 0

    def add(self, job_id: str, tell: Callable[[], None]) -> None:
        super().add(job_id, tell)
        self.count += 1

    def remove(self, job_id: str, tell: Callable[[], None]) -> None:
        super().remove(job_id, tell)
        self.count -= 1


class Running:
    """An operator with one Job of four Batches that runs."""

    def __init__(self, root: Path) -> None:
        self.folder, segments = make_job(root / "running", 4)
        self.job = job_of(segments)
        self.ended = 0
        self.watchers: list[Callable[[], None]] = []
        self.followers = CountedFollowers()
        self.ledger = SimpleNamespace(job=lambda _: self.job)
        self.jobs = SimpleNamespace(
            watch=lambda _, tell: self.watchers.append(tell),
            unwatch=lambda _, tell: self.watchers.remove(tell),
            folder=self._folder,
        )

    def _folder(self, _: str) -> JobFolder:
        return self.folder

    def ended_prefix(self, _: Job, first: int) -> int:
        return max(first, self.ended)

    def end_lease(self, end: int) -> None:
        self.ended = end
        self.followers.lease_ended(self.job.id)

    def end(self) -> None:
        self.ended = self.job.total_batch_count
        for tell in self.watchers:
            tell()

    def follow(self) -> Any:
        def read(_: Job, first: int, end: int) -> Iterator[bytes]:
            yield from (f"{batch}\n".encode() for batch in range(first, end))

        return streams.batches(cast("Operator", self), self.job, read, follow=True)


def test_who_follows_is_told_when_a_lease_ends_and_when_the_job_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_LOOK_ANYWAY_SECONDS", 3600)
    running = Running(tmp_path)

    async def follow() -> list[bytes]:
        chunks = []
        async with asyncio.timeout(30):
            running.end_lease(1)
            following = running.follow()
            chunks.append(await anext(following))
            waiting = asyncio.create_task(anext(following))
            running.end_lease(3)
            chunks.append(await waiting)
            waiting = asyncio.create_task(anext(following))
            running.end()
            chunks.append(await waiting)
            return [*chunks, *[chunk async for chunk in following]]

    assert [b"0\n", b"1\n2\n", b"3\n"] == asyncio.run(follow())
    assert running.watchers == []
    assert running.followers.count == 0


def test_who_follows_sees_what_ends_within_a_long_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LOOK_ANYWAY_SECONDS", 0.01)
    running = Running(tmp_path)

    async def follow() -> bytes:
        async with asyncio.timeout(30):
            following = running.follow()
            waiting = asyncio.create_task(anext(following))
            await asyncio.sleep(0)  # it looks, and there is nothing
            running.ended = 2
            chunk: bytes = await waiting
            await following.aclose()
            return chunk

    assert b"0\n1\n" == asyncio.run(follow())
    assert running.watchers == []
    assert running.followers.count == 0


def test_the_log_of_an_api_is_followed_over_rotations_until_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_LOOK_AGAIN_SECONDS", 0)
    folder = ApiFolder(tmp_path)
    deployed = {"api"}

    def api(name: str) -> None:
        if name not in deployed:
            raise ApiNotFound

    operator: Any = SimpleNamespace(
        serving=SimpleNamespace(folder=lambda _: folder), deployments=SimpleNamespace(api=api)
    )

    async def follow() -> list[bytes]:
        pieces = cast("AsyncGenerator[bytes]", streams.api_log(operator, "api", follow=True))
        folder.log.write_bytes(b"one\n")
        found = [await anext(pieces)]
        with folder.log.open("ab") as log:
            log.write(b"two\n")
        folder.log.rename(folder.older_log)
        folder.log.write_bytes(b"three\n")
        found.append(await anext(pieces))
        deployed.clear()
        return found + [piece async for piece in pieces]

    assert [b"one\n", b"two\n", b"three\n"] == asyncio.run(follow())
