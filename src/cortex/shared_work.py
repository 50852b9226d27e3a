"""Work that several wait for: it is done once, and each follows it in a log of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Log = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class SharedWork:
    """See the module. It is begun with its task, by whoever asks first."""

    latest: str = ""
    task: asyncio.Task[Path] = field(init=False)
    _logs: list[Log] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Tell all who wait how it goes."""
        self.latest = line
        for log in self._logs:
            log(line)

    async def wait(self, log: Log, *, forget: Callable[[], None]) -> Path:
        """Wait for its outcome, and follow it in this log from now on.

        Whoever is cancelled leaves it to the others. The last one ends it, after `forget`, so that whoever asks from
        then on begins anew.
        """
        self._logs.append(log)
        try:
            return await asyncio.shield(self.task)
        finally:
            self._logs.remove(log)
            if not self._logs and not self.task.done():
                forget()
                self.task.cancel()
                await asyncio.wait([self.task])
