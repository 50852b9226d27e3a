"""Make blocking calls from a running event loop: in threads, which end with whoever waits for them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Final, ParamSpec, TypeVar

from cortex.clients.calls import Call

_THREADS: Final = 64  # each stream that is followed takes one while it waits

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Threads:
    """Runs calls of one client."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="cortex-client")

    def close(self) -> None:
        """Have the threads end."""
        self._executor.shutdown(wait=False)

    async def run(
        self, function: Callable[Arguments, Value], *args: Arguments.args, **options: Arguments.kwargs
    ) -> Value:
        """Call a function. If this is cancelled, its connection is cut, and its end is waited for."""
        return await self._run(Call(), partial(function, *args, **options))

    async def iterate(self, blocks: Generator[list[Value], None, None]) -> AsyncGenerator[Value, None]:
        """Give what the blocks of a generator hold.

        No more than one is read ahead. When the iteration is left, the connection of the generator is closed.
        """
        call = Call()
        with closing(blocks):
            while (block := await self._run(call, partial(next, blocks, None))) is not None:
                for each in block:
                    yield each

    async def _run(self, call: Call, function: Callable[[], Value]) -> Value:
        running = self._executor.submit(call.context.run, function)
        answer = asyncio.wrap_future(running)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if not running.cancel():
                call.give_up()
                await asyncio.wait([answer])
                if not answer.cancelled():
                    answer.exception()  # nobody else wants to know
            raise
