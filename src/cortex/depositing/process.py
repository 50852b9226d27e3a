"""The operator's side of depositing: starts the processes, and hears what they tell."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from cortex.child_process.children import MOST_AT_ONCE, Call, ChildDied, Children
from cortex.depositing.events import WORDS, Copy, Event, Failed, Found, Request
from cortex.domain.errors import StartRefused
from cortex.domain.layout import JobFolder
from cortex.files.places import imports_for


@dataclass(slots=True, kw_only=True)
class Depositors:
    """The processes that bring things to a shared storage, and from there. Cancelling a call kills its process.

    Where one dies before its last word, that is told as Failed. Of each kind of call as many are at work as there are
    CPUs, at least two; the others wait.
    """

    children: Children
    root: str  # see `places.root_of`
    log: Path  # where their standard error goes
    _uploads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    _removals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def check(self) -> None:
        """Look whether the storage can be used. Raises StartRefused."""
        last = await self._last("check", Request(root=self.root))
        if isinstance(last, Failed):
            raise StartRefused(
                f"--storage: {last.reason}",
                hint=last.hint or "name a bucket (s3://bucket/prefix) or a folder that the operator can write to",
            )

    async def upload(
        self, job_id: str, folder: JobFolder, pieces: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[Event, None]:
        """Leave pieces of Segments there, and tell each one; the last word is Done or Failed."""
        request = Request(root=self.root, job_id=job_id, folder=str(folder.root), pieces=pieces)
        async with self._uploads, aclosing(self._events("upload", request)) as events:
            async for event in events:
                yield event

    async def copy(self, copies: Sequence[Copy]) -> AsyncGenerator[Event, None]:
        """Copy rows into the operator's files, and tell of each; the last word is Done or Failed."""
        async with aclosing(self._events("copy", Request(root=self.root, copies=copies))) as events:
            async for event in events:
                yield event

    async def remove(self, jobs: Sequence[str]) -> Event:
        """Remove all that lies there of these Jobs; give Done or Failed."""
        async with self._removals:
            return await self._last("remove", Request(root=self.root, jobs=jobs))

    async def find(self) -> list[str]:
        """Give the Jobs of which there is something: none where that cannot be found out."""
        async with aclosing(self._events("find", Request(root=self.root))) as events:
            return [event.job_id async for event in events if isinstance(event, Found)]

    async def _last(self, action: str, request: Request) -> Event:
        last: Event = Failed(reason="the process that looks at the storage has said nothing")
        async with aclosing(self._events(action, request)) as events:
            async for event in events:
                last = event
        return last

    async def _events(self, action: str, request: Request) -> AsyncGenerator[Event, None]:
        call = Call(
            module="cortex.depositing",
            action=action,
            request=WORDS.write_request(request),
            log=self.log,
            imports=imports_for([self.root]),
        )
        try:
            async with aclosing(self.children.events(WORDS, call)) as events:
                async for event in events:
                    yield event
        except ChildDied as death:
            yield Failed(reason=f"the process that brings things to the storage, and from there, {death.how}")
