"""The frames of one station, in order: what follows rows that it has left in the storage waits until these are here.

Rows that cannot be copied from there are asked for again, over the channel. Nothing that speaks of rows is heard
before them: if they never come, because the station is gone too, neither is what it said of them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cortex.depositing.events import Copy
from cortex.depositing.places import RowsName
from cortex.domain.frame import Frame, FrameError
from cortex.operator.stations.copies import Told

_NEVER_WAIT: Final = ("beat", "log", "page", "read", "rows", "say")
"""Of the station's own frames: none of them speaks of what the Worker has written."""

_OF_ROWS: Final = ("written", "lease_ended")
"""What must not be heard where the rows are missing; the Lease then ends with the Worker's connection."""


@dataclass(slots=True)
class _Rows:
    """Rows that are not here yet: their place in the order of frames."""

    name: RowsName
    is_here: bool = False
    is_asked_for: bool = False  # over the channel


@dataclass(slots=True, kw_only=True)
class Backlog:
    """See the module."""

    job_id: str
    worker: str
    rows: str  # the path of the Worker's rows file
    copy: Callable[[Copy, Told], None]
    deliver: Callable[[Frame], None]
    send: Callable[[Frame], None]  # to the station
    failed: Callable[[str], None]  # told why the storage cannot be used
    _waiting: deque[_Rows | Frame] = field(default_factory=deque)
    _when_lost: Callable[[], None] | None = None  # once the connection is closed

    def take(self, frame: Frame) -> None:
        """Take the next frame of the station. Raises FrameError."""
        kind = None if "peer" in frame else frame["type"]
        if kind == "rows_at":
            self._await(frame)
        elif kind == "rows_sent":
            self._sent(frame["offset"])
        elif self._waiting and not _never_waits(frame):
            self._waiting.append(frame)
        else:
            self.deliver(frame)

    def lost(self, then: Callable[[], None]) -> None:
        """The connection is closed: call `then` when all that came before is told, or can never be."""
        self._when_lost = then
        for each in self._waiting:
            if isinstance(each, _Rows) and each.is_asked_for:
                self._give_up()
                return
        self._go_on()

    def give_up(self) -> None:
        """Wait no longer, for the station has come back on another connection: it repeats what was not heard."""
        if self._waiting:
            self._give_up()

    def _await(self, frame: Frame) -> None:
        try:
            name = RowsName.read(frame["name"])
        except ValueError as error:
            raise FrameError(str(error)) from error
        if (name.offset, name.size) != (frame["offset"], frame["bytes"]):
            raise FrameError(f"rows of {frame['bytes']} bytes at {frame['offset']} are called `{name}`")
        rows = _Rows(name)
        self._waiting.append(rows)
        wanted = Copy(job_id=self.job_id, worker=self.worker, name=str(name), rows=self.rows)
        self.copy(wanted, lambda reason: self._copied(rows, reason))

    def _copied(self, rows: _Rows, reason: str | None) -> None:
        if reason is None:
            rows.is_here = True
            self._go_on()
            return
        self.failed(reason)
        if self._when_lost is not None:
            self._give_up()
        elif rows in self._waiting:
            rows.is_asked_for = True
            self.send({"type": "rows_wanted", "offset": rows.name.offset, "bytes": rows.name.size})

    def _sent(self, offset: int) -> None:
        for each in self._waiting:
            if isinstance(each, _Rows) and each.is_asked_for and each.name.offset == offset:
                each.is_here = True
        self._go_on()

    def _go_on(self) -> None:
        """Deliver what waits for nothing any more."""
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, _Rows) and not first.is_here:
                return
            self._waiting.popleft()
            if not isinstance(first, _Rows):
                self.deliver(first)
        self._tell_lost()

    def _give_up(self) -> None:
        """Deliver what does not speak of the rows that are missing."""
        are_missing = False
        while self._waiting:
            first = self._waiting.popleft()
            if isinstance(first, _Rows):
                are_missing = are_missing or not first.is_here
            elif not (are_missing and first["type"] in _OF_ROWS):
                self.deliver(first)
        self._tell_lost()

    def _tell_lost(self) -> None:
        if self._when_lost is not None:
            then, self._when_lost = self._when_lost, None
            then()


def _never_waits(frame: Frame) -> bool:
    """Tell whether a frame is heard at once: who waits for rows must not take that for a peer's silence."""
    return frame["type"] == "beat" if "peer" in frame else frame["type"] in _NEVER_WAIT
