"""Rows that are brought to the operator by way of the storage: it is told only where they are."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cortex.depositing.places import MOST_ROWS_BYTES
from cortex.domain.frame import Message
from cortex.station.deposits import LEAST_BYTES, Deposits
from cortex.station.messages import Told
from cortex.station.results import rows_on_channel


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """See the module: a RowsSink."""

    deposits: Deposits

    @property
    def least_bytes(self) -> int:
        """See RowsSink."""
        return LEAST_BYTES

    def bring(self, file: int, begin: int, end: int) -> Iterator[Told]:
        """See RowsSink. What the storage does not take goes over the channel."""
        while begin < end and self.deposits.takes(min(end - begin, MOST_ROWS_BYTES)):
            size = min(end - begin, MOST_ROWS_BYTES)
            yield asyncio.get_running_loop().create_task(self._leave(file, begin, size))
            begin += size
        yield from rows_on_channel(file, begin, end)

    async def _leave(self, file: int, offset: int, size: int) -> Iterable[Message]:
        """Leave rows there; give what the operator is to be told."""
        name = await asyncio.to_thread(lambda: self.deposits.leave(offset, os.pread(file, size, offset)))
        if name is None:
            why: Message = ({"type": "no_storage", "why": self.deposits.why_not}, None)
            return [why, *rows_on_channel(file, offset, offset + size)]
        return [({"type": "rows_at", "offset": offset, "bytes": size, "name": name}, None)]
