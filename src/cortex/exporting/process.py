"""The operator's side of exporting: starts the processes, hears what they tell, and starts again those that die."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cortex.child_process.children import MOST_AT_ONCE, Call, ChildDied, Children
from cortex.domain.errors import CortexError, InvalidSubmission
from cortex.domain.output import Output
from cortex.exporting.events import (
    WORDS,
    Ended,
    Event,
    FileWritten,
    Refused,
    Request,
    Verified,
    WritingFailed,
)
from cortex.files.fence import Allowed, write_allowed
from cortex.files.places import imports_for

PATIENCE_SECONDS: Final = 600.0
_MAX_RESTARTS: Final = 3


@dataclass(slots=True, kw_only=True)
class Exporters:
    """The processes that write results and check them. Cancelling a call kills its process.

    Of each kind of call as many are at work as there are CPUs, at least two; the others wait.
    """

    children: Children
    log: Path  # where their standard error goes
    patience_seconds: float = PATIENCE_SECONDS
    part_bytes: int | None = None
    _checks: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    _writings: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))
    _verifications: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_AT_ONCE))

    async def check(self, output: Output, allowed: Allowed = None) -> None:
        """Look whether results can be written there. Raises InvalidSubmission with what is wrong."""
        async with self._checks:
            event = await self._answer("check", Request(allowed=write_allowed(allowed), output=output))
        if isinstance(event, Refused):
            raise InvalidSubmission(event.message, hint=event.hint)

    async def verify(self, ended: Ended, allowed: Allowed = None) -> Mapping[str, Any]:
        """Check again all that a Job has left; see `cortex.exporting.verify`."""
        async with self._verifications:
            event = await self._answer("verify", Request(allowed=write_allowed(allowed), ended=ended))
        if isinstance(event, Verified):
            return event.findings
        reason = event.message if isinstance(event, Refused) else "its process said nothing"
        raise CortexError(f"the job cannot be verified: {reason}", hint=f"the operator's log `{self.log}` may say more")

    async def write(self, ended: Ended, *, is_success: bool, allowed: Allowed = None) -> AsyncGenerator[Event, None]:
        """Write the results of a Job, and tell of it; the last word is Written or WritingFailed.

        A process that dies is started again, and begins anew.
        """
        request = Request(
            allowed=write_allowed(allowed),
            ended=ended,
            is_success=is_success,
            part_bytes=self.part_bytes,
            patience_seconds=self.patience_seconds,
        )
        told: set[str] = set()
        deaths = 0
        async with self._writings:
            while True:
                try:
                    async with aclosing(self._events("write", request)) as events:
                        async for event in events:
                            if isinstance(event, FileWritten) and event.name not in told:
                                told.add(event.name)
                                deaths = 0  # it has come further than those before it
                            yield event
                except ChildDied as death:
                    deaths += 1
                    if deaths > _MAX_RESTARTS:
                        yield WritingFailed(
                            reason=f"the process that writes them {death.how}, {deaths} times at the same place;"
                            f" `{self.log}` may say more"
                        )
                        return
                else:
                    return

    async def _answer(self, action: str, request: Request) -> Event:
        last: Event | None = None
        try:
            async with aclosing(self._events(action, request)) as events:
                async for event in events:
                    last = event
        except ChildDied as death:
            raise CortexError(
                f"the process that looks at the results' files {death.how}",
                hint="try again; the operator's log may say more",
            ) from death
        assert last is not None  # noqa: S101 - the last word has been said
        return last

    def _events(self, action: str, request: Request) -> AsyncGenerator[Event, None]:
        call = Call(
            module="cortex.exporting",
            action=action,
            request=WORDS.write_request(request),
            log=self.log,
            imports=imports_for(_urls(request)),
        )
        return self.children.events(WORDS, call)


def _urls(request: Request) -> list[str]:
    """Give the URLs that a process will go to, or the beginnings of them."""
    job = request.ended.job if request.ended else None
    output = job.output if job else request.output
    return [*([output.path] if output else []), *(job.source.paths if job and job.source else [])]
