"""What has been written comes to the disk every second, whatever goes wrong now and then."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cortex.domain.errors import StorageFull
from cortex.operator.upkeep import syncing
from cortex.operator.upkeep.syncing import Syncing


@pytest.mark.parametrize("error", [OSError(28, "full"), StorageFull(), sqlite3.OperationalError("database is locked")])
def test_what_cannot_be_synced_is_synced_the_next_time(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [error]
    synced: list[str] = []

    def sync_unsynced(_: Path, files: Sequence[Any]) -> None:
        synced.extend(file.name for file in files)

    def unsynced() -> Sequence[Any]:
        if problems:
            raise problems.pop()
        return [SimpleNamespace(name="a file", number=7)]

    monkeypatch.setattr(syncing, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(syncing, "sync_unsynced", sync_unsynced)

    async def sync() -> int:
        forgotten: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        ledger = SimpleNamespace(unsynced=unsynced, forget_unsynced=lambda up_to: forgotten.set_result(up_to))
        jobs: Any = SimpleNamespace(ledger=ledger, root=Path(), runs={})
        task = asyncio.create_task(Syncing(jobs).keep())
        async with asyncio.timeout(10):
            up_to = await forgotten
        task.cancel()
        return up_to

    assert 7 == asyncio.run(sync())
    assert "a file" in synced
