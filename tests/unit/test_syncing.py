"""What has been written comes to the disk every second, whatever goes wrong now and then."""

import asyncio
import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from cortex import wiring
from cortex.domain.errors import StorageFull


@pytest.mark.parametrize("error", [OSError(28, "full"), StorageFull(), sqlite3.OperationalError("database is locked")])
def test_what_cannot_be_synced_is_synced_the_next_time(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_SYNC_SECONDS", 0)
    problems = [error]
    synced: list[str] = []

    def begin() -> list[str]:
        if problems:
            raise problems.pop()
        return ["a file"]

    async def sync() -> None:
        forgotten = asyncio.Event()
        syncing: Any = SimpleNamespace(begin=begin, sync=synced.extend, end=lambda _: forgotten.set())
        task = asyncio.create_task(wiring._sync_now_and_then(syncing))
        async with asyncio.timeout(10):
            await forgotten.wait()
        task.cancel()

    asyncio.run(sync())

    assert "a file" in synced
