"""The storage that operator and stations share, as the door uses it: see `objects` and `copies`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import Ticket
from cortex.operator.stations.backlog import Backlog
from cortex.operator.stations.cargo import Refer
from cortex.operator.stations.copies import Copies
from cortex.operator.stations.objects import Objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """See the module."""

    root: str  # what stations are told of it
    objects: Objects
    copies: Copies

    def begin(self, ticket: Ticket) -> None:
        """The station of a Worker of a Job comes in."""
        self.objects.begin(ticket.job_id, JobFolder(Path(ticket.folder)))

    def refer(self, ticket: Ticket) -> Refer:
        """Give what tells where a Worker finds what it is leased."""
        return lambda segment, begin, end: self.objects.reference(ticket.worker, ticket.job_id, segment, begin, end)

    def unfetched(self, ticket: Ticket, why: str) -> None:
        """A Worker could not read what it was referred to."""
        self.objects.unfetched(ticket.worker, ticket.job_id, why)

    def backlog(self, ticket: Ticket, *, deliver: Callable[[Frame], None], send: Callable[[Frame], None]) -> Backlog:
        """Give what holds back the frames of a station that speak of rows which are still in the storage."""
        return Backlog(
            job_id=ticket.job_id,
            worker=ticket.worker,
            rows=str(JobFolder(Path(ticket.folder)).rows(ticket.worker)),
            copy=self.copies.copy,
            deliver=deliver,
            send=send,
            failed=lambda why: self.objects.complain(ticket.job_id, why),
        )

    async def close(self) -> None:
        """End all that is being brought to the storage, and from there."""
        await self.objects.close()
        await self.copies.close()
