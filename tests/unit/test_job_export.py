"""Results that are being written, as the operator sees them."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cortex.domain.layout import JobFolder
from cortex.domain.output import Output
from cortex.exporting.events import Ended, Event
from cortex.operator.export import JobExport
from cortex.storage.memory import MemoryLedger
from job_files import job_of


class Endless:
    """Exporters that never come to an end."""

    async def check(self, output: Output, allowed: Sequence[Path] | None = None) -> None:
        raise NotImplementedError

    async def verify(self, ended: Ended, allowed: Sequence[Path] | None = None) -> Mapping[str, Any]:
        raise NotImplementedError

    async def write(
        self, ended: Ended, *, is_success: bool, allowed: Sequence[Path] | None = None
    ) -> AsyncGenerator[Event, None]:
        await asyncio.Event().wait()
        raise AssertionError
        yield


async def cancel_after(looks: int, folder: Path) -> list[str | None]:
    export = JobExport(ledger=MemoryLedger(), exporters=Endless(), allowed=None, now_ns=lambda: 0)
    job = job_of([], output=Output(path="/out"))
    told: list[str | None] = []
    export.begin(job, JobFolder(folder), told.append)
    for _ in range(looks):
        await asyncio.sleep(0)

    export.cancel(job.id)

    for _ in range(10):
        await asyncio.sleep(0)
    assert export.progress(job) is None
    return told


def test_who_waits_for_results_is_told_that_they_were_given_up_however_early_that_is(tmp_path: Path) -> None:
    assert [["that was given up"]] * 3 == [asyncio.run(cancel_after(looks, tmp_path)) for looks in range(3)]
