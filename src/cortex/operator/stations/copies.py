"""Rows that stations have left in the shared storage, on their way into the operator's files."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Protocol

from cortex.child_process.children import MOST_AT_ONCE
from cortex.depositing.events import Copied, Copy, Event, Failed, NotCopied

logger = logging.getLogger(__name__)

_MOST_PER_CALL: Final = 32
_NO_ROOM_SECONDS: Final = 1.0

Told = Callable[[str | None], None]
"""Is told that rows have been copied (None), or why they cannot be."""


class Copying(Protocol):
    """Who copies rows. Cancelling a call ends what it does at once."""

    def copy(self, copies: Sequence[Copy]) -> AsyncGenerator[Event, None]:
        """Copy rows into the operator's files, and tell of each; the last word is Done or Failed."""


@dataclass(slots=True, kw_only=True)
class Copies:
    """See the module. All methods are called from the operator's thread, in its event loop.

    As many processes are at work as there are CPUs, at least two; each takes all that waits when it begins.
    """

    copying: Copying
    no_room_seconds: float = _NO_ROOM_SECONDS
    _waiting: deque[tuple[Copy, Told]] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def copy(self, wanted: Copy, told: Told) -> None:
        """Copy rows, and tell when that is done. Where the operator's disk is full, it is tried until it is not."""
        self._waiting.append((wanted, told))
        if len(self._tasks) < MOST_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all that is being done, and tell nobody: stations leave it again for the next operator."""
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft() for _ in range(min(_MOST_PER_CALL, len(self._waiting)))]
            rest = dict(enumerate(group))
            reason = "its process has said nothing"
            async with aclosing(self.copying.copy([wanted for wanted, _ in group])) as events:
                async for event in events:
                    match event:
                        case Copied(index=index):
                            _tell(rest.pop(index)[1], None)
                        case NotCopied(index=index, is_full=True):
                            again = rest.pop(index)
                            asyncio.get_running_loop().call_later(self.no_room_seconds, self.copy, *again)
                        case NotCopied(index=index, reason=why):
                            _tell(rest.pop(index)[1], why)
                        case Failed(reason=reason):
                            pass
            for _, told in rest.values():
                _tell(told, reason)


def _tell(told: Told, outcome: str | None) -> None:
    try:
        told(outcome)
    except Exception:
        logger.exception("what follows the copy of rows has failed")
