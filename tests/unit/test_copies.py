"""Rows are copied by processes, many at a time, and whoever waits for them is told once."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from cortex.depositing.events import Copied, Copy, Done, Event, Failed, NotCopied
from cortex.operator.stations.copies import Copies


class Copying:
    """Copies as a test says; notes what it was asked for."""

    def __init__(self, answer: Callable[[int, Copy], Event | None]) -> None:
        self.asked: list[list[str]] = []
        self.answer = answer
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def copy(self, copies: Sequence[Copy]) -> AsyncGenerator[Event, None]:
        self.asked.append([copy.name for copy in copies])
        await self.may_go_on.wait()
        for index, copy in enumerate(copies):
            event = self.answer(index, copy)
            if event is None:
                yield Failed(reason="it was killed")
                return
            yield event
        yield Done()


def rows(name: str) -> Copy:
    return Copy(job_id="job", worker="job-1", name=name, rows="/rows")


async def outcomes(copies: Copies, names: Sequence[str], told: list[tuple[str, str | None]]) -> None:
    """Ask for copies, and wait until all is told."""
    is_told = asyncio.Event()

    def note(name: str, reason: str | None) -> None:
        told.append((name, reason))
        if len(told) == len(names):
            is_told.set()

    for name in names:
        copies.copy(rows(name), lambda reason, name=name: note(name, reason))
    await is_told.wait()


def test_each_is_told_what_became_of_its_rows() -> None:
    def answer(index: int, copy: Copy) -> Event:
        return NotCopied(index=index, reason="gone") if copy.name == "b" else Copied(index=index)

    told: list[tuple[str, str | None]] = []

    async def story() -> None:
        await outcomes(Copies(copying=Copying(answer)), "abc", told)

    asyncio.run(story())

    assert [("a", None), ("b", "gone"), ("c", None)] == sorted(told)


def test_all_that_waits_is_copied_by_one_process() -> None:
    asked: list[list[str]] = []

    async def story() -> None:
        copying = Copying(lambda index, _: Copied(index=index))
        copying.asked = asked
        await outcomes(Copies(copying=copying), "abcdefgh", [])

    asyncio.run(story())

    assert [list("abcdefgh")] == asked


def test_who_waits_is_told_when_the_process_dies() -> None:
    told: list[tuple[str, str | None]] = []

    async def story() -> None:
        copying = Copying(lambda index, copy: Copied(index=index) if copy.name == "a" else None)
        await outcomes(Copies(copying=copying), "ab", told)

    asyncio.run(story())

    assert [("a", None), ("b", "it was killed")] == told


def test_a_full_disk_is_waited_for() -> None:
    tries: list[str] = []
    told: list[tuple[str, str | None]] = []

    def answer(index: int, copy: Copy) -> Event:
        tries.append(copy.name)
        return Copied(index=index) if len(tries) > 3 else NotCopied(index=index, reason="no room", is_full=True)

    async def story() -> None:
        await outcomes(Copies(copying=Copying(answer), no_room_seconds=0.001), "a", told)

    asyncio.run(story())

    assert ([("a", None)], ["a"] * 4) == (told, tries)


def test_nobody_is_told_after_the_end() -> None:
    told: list[str | None] = []

    async def story() -> None:
        copying = Copying(lambda index, _: Copied(index=index))
        copying.may_go_on.clear()
        copies = Copies(copying=copying)
        copies.copy(rows("a"), told.append)
        await asyncio.sleep(0)
        await copies.close()
        copying.may_go_on.set()

    asyncio.run(story())

    assert [] == told
