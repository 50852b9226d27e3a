"""The operator's side of enqueuing: starts the processes, hears what they tell, and starts again those that die."""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cortex.child_process.children import MOST_AT_ONCE, Call, ChildDied, Children
from cortex.domain.errors import CortexError, InvalidSubmission
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource
from cortex.enqueuing.events import (
    IN_PLACE_FROM_BYTES,
    STREAMED_SEGMENT_BYTES,
    WORDS,
    EnqueuingFailed,
    Event,
    FileBegun,
    Happening,
    Listed,
    Refused,
    Request,
    Restarted,
    Resume,
    SegmentCut,
)
from cortex.files.fence import Allowed, write_allowed
from cortex.files.places import imports_for

_MAX_RESTARTS: Final = 3


@dataclass(slots=True, kw_only=True)
class Enqueuers:
    """The processes that list and cut. Cancelling a call, or closing its generator, kills its process.

    Of each kind of call as many are at work as there are CPUs, at least two; the others wait. So nobody waits for
    a check because others enqueue, or because they wait for another kind of storage, which may not answer.
    """

    children: Children
    log: Path  # where their standard error goes
    segment_bytes: int = STREAMED_SEGMENT_BYTES
    in_place_from_bytes: int = IN_PLACE_FROM_BYTES
    _checks: defaultdict[frozenset[str], asyncio.Semaphore] = field(
        default_factory=lambda: defaultdict(lambda: asyncio.Semaphore(MOST_AT_ONCE))
    )
    _listings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    _enqueuings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def check(self, source: FileSource, allowed: Allowed = None) -> None:
        """Look whether there is a file to enqueue. Raises InvalidSubmission with what is wrong and what to change."""
        turns = self._checks[frozenset(map(_scheme, source.paths))]
        async with turns, aclosing(self._answers("check", source, allowed)) as answers:
            async for _ in answers:
                pass

    async def listing(self, source: FileSource, allowed: Allowed = None) -> AsyncGenerator[Listed, None]:
        """List all files, up to a thousand at a time. Raises InvalidSubmission, also when there are none."""
        async with self._listings, aclosing(self._answers("list", source, allowed)) as answers:
            async for answer in answers:
                if isinstance(answer, Listed):
                    yield answer

    async def enqueue(
        self, source: FileSource, folder: JobFolder, *, allowed: Allowed = None, resume: Resume | None = None
    ) -> AsyncGenerator[Happening, None]:
        """Cut the files into the Segments of a Job; tell each as soon as it is on the disk.

        The last word is Enqueued or EnqueuingFailed. A process that dies is started again where its last Segment
        ends. With `resume`, nothing is told that comes before it, nor the file that it lies in.
        """
        begun, deaths = -1, 0
        async with self._enqueuings:
            while True:
                request = replace(
                    _request(source, allowed),
                    folder=os.fspath(folder.root),
                    resume=resume,
                    segment_bytes=self.segment_bytes,
                    in_place_from_bytes=self.in_place_from_bytes,
                )
                try:
                    async with aclosing(self._happenings(request)) as happenings:
                        async for happening in happenings:
                            if isinstance(happening, FileBegun):
                                if happening.number <= begun:  # it was told by the one that died
                                    continue
                                begun = happening.number
                            elif isinstance(happening, SegmentCut):
                                resume, deaths = happening.resume, 0
                            yield happening
                except ChildDied as death:
                    deaths += 1
                    if deaths > _MAX_RESTARTS:
                        yield _given_up(death, deaths, self.log)
                        return
                    yield Restarted(how=death.how)
                else:
                    return

    async def _answers(self, action: str, source: FileSource, allowed: Allowed) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(self._events(action, _request(source, allowed))) as events:
                async for event in events:
                    if isinstance(event, Refused):
                        raise InvalidSubmission(event.message, hint=event.hint)
                    yield event
        except ChildDied as death:
            raise CortexError(
                f"the process that lists the files {death.how}", hint="submit again; the operator's log may say more"
            ) from death

    async def _happenings(self, request: Request) -> AsyncGenerator[Happening, None]:
        async with aclosing(self._events("enqueue", request)) as events:
            async for event in events:
                if isinstance(event, Happening):
                    yield event

    def _events(self, action: str, request: Request) -> AsyncGenerator[Event, None]:
        """Have a process do this and give what it tells. Raises ChildDied unless it has said its last word."""
        call = Call(
            module="cortex.enqueuing",
            action=action,
            request=WORDS.write_request(request),
            log=self.log,
            imports=imports_for(request.source.paths),
        )
        return self.children.events(WORDS, call)


def _scheme(path: str) -> str:
    return "file" if path.startswith("/") else path.partition("://")[0]


def _request(source: FileSource, allowed: Allowed) -> Request:
    return Request(source=source, allowed=write_allowed(allowed))


def _given_up(death: ChildDied, deaths: int, log: Path) -> EnqueuingFailed:
    return EnqueuingFailed(
        reason=f"the enqueuing process {death.how}, {deaths} times at the same place; submit again, or ask whoever"
        f" keeps the operator: `{log}` may say more"
    )
