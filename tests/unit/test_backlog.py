"""What a station says is heard in order, and never before the rows that it speaks of are here."""

from collections.abc import Callable
from typing import Any

import pytest

from cortex.depositing.events import Copy
from cortex.depositing.places import RowsName
from cortex.domain.frame import Frame, FrameError
from cortex.operator.stations.backlog import Backlog

ROWS = RowsName.of(100, b"x" * 50)
OTHERS = RowsName.of(150, b"y" * 50)
WRITTEN: Frame = {"type": "written", "token": 7}
ENDED: Frame = {"peer": "worker", "type": "lease_ended", "token": 7}
EXITED: Frame = {"peer": "supervisor", "type": "exited"}


def rows_at(name: RowsName) -> Frame:
    return {"type": "rows_at", "offset": name.offset, "bytes": name.size, "name": str(name)}


class Door:
    """What is around a backlog."""

    def __init__(self) -> None:
        self.heard: list[Frame] = []
        self.sent: list[Frame] = []
        self.failures: list[str] = []
        self.copies: list[tuple[Copy, Callable[[str | None], None]]] = []
        self.backlog = Backlog(
            job_id="job",
            worker="job-1",
            rows="/data/job-1.rows",
            copy=lambda wanted, told: self.copies.append((wanted, told)),
            deliver=self.heard.append,
            send=self.sent.append,
            failed=self.failures.append,
        )

    def take(self, *frames: Frame) -> None:
        for frame in frames:
            self.backlog.take(frame)

    def copied(self, index: int, reason: str | None = None) -> None:
        self.copies[index][1](reason)

    def lost(self) -> None:
        self.backlog.lost(lambda: self.heard.append({"type": "lost"}))


@pytest.fixture
def door() -> Door:
    return Door()


def test_without_rows_elsewhere_everything_is_heard_at_once(door: Door) -> None:
    door.take(WRITTEN, ENDED)

    assert [WRITTEN, ENDED] == door.heard


def test_what_follows_rows_elsewhere_is_heard_once_they_are_copied(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN, ENDED)
    before = list(door.heard)
    door.copied(0)

    assert [] == before
    assert [WRITTEN, ENDED] == door.heard
    assert [Copy(job_id="job", worker="job-1", name=str(ROWS), rows="/data/job-1.rows")] == [
        wanted for wanted, _ in door.copies
    ]


def test_rows_that_are_copied_first_do_not_let_out_what_waits_for_others(door: Door) -> None:
    door.take(rows_at(ROWS), rows_at(OTHERS), WRITTEN)
    door.copied(1)
    between = list(door.heard)
    door.copied(0)

    assert [] == between
    assert [WRITTEN] == door.heard


@pytest.mark.parametrize("kind", ["beat", "log", "page", "rows", "say", "read"])
def test_what_speaks_of_no_rows_never_waits(door: Door, kind: str) -> None:
    door.take(rows_at(ROWS), {"type": kind})

    assert [{"type": kind}] == door.heard


def test_a_peers_frame_waits_whatever_it_is_called(door: Door) -> None:
    door.take(
        rows_at(ROWS), {"peer": "worker", "type": "log"}, {"peer": "supervisor", "type": "rows_sent", "offset": 100}
    )

    assert [] == door.heard


def test_that_a_supervisor_lives_is_heard_at_once_however_long_rows_take(door: Door) -> None:
    beat = {"peer": "supervisor", "type": "beat"}
    door.take(rows_at(ROWS), EXITED, beat)

    assert [beat] == door.heard


def test_rows_that_cannot_be_copied_are_asked_for_over_the_channel(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN)
    door.copied(0, "it is gone")
    asked = list(door.sent)
    piece = {"type": "rows", "offset": 100, "data": b"x" * 50}
    door.take(piece)
    before = list(door.heard)
    door.take({"type": "rows_sent", "offset": 100})

    assert [{"type": "rows_wanted", "offset": 100, "bytes": 50}] == asked
    assert [piece] == before
    assert [piece, WRITTEN] == door.heard
    assert ["it is gone"] == door.failures


def test_a_station_does_not_let_out_what_waits_by_itself(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN, {"type": "rows_sent", "offset": 100})

    assert [] == door.heard


def test_a_lost_connection_is_told_after_all_that_came_before(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN, EXITED)
    door.lost()
    before = list(door.heard)
    door.copied(0)

    assert [] == before
    assert [WRITTEN, EXITED, {"type": "lost"}] == door.heard


def test_nothing_is_heard_of_rows_that_never_come(door: Door) -> None:
    door.take(WRITTEN, rows_at(ROWS), WRITTEN, ENDED, EXITED)
    door.lost()
    door.copied(0, "it is gone")

    assert [WRITTEN, EXITED, {"type": "lost"}] == door.heard
    assert [] == door.sent


def test_nothing_is_heard_of_rows_that_were_asked_for_when_the_connection_was_lost(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN, EXITED)
    door.copied(0, "it is gone")
    door.lost()

    assert [EXITED, {"type": "lost"}] == door.heard


def test_a_station_that_comes_back_is_not_waited_for_on_its_earlier_connection(door: Door) -> None:
    door.take(rows_at(ROWS), WRITTEN, EXITED)
    door.lost()
    door.backlog.give_up()
    door.copied(0)

    assert [EXITED, {"type": "lost"}] == door.heard


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../secret"},
        {"name": "100-50-0000000"},
        {"name": "100-999999999-00000000"},
        {"offset": 99},
        {"bytes": 51},
    ],
    ids=["path", "form", "size", "offset", "bytes"],
)
def test_a_name_that_is_not_one_of_rows_cuts_the_station_off(door: Door, change: dict[str, Any]) -> None:
    with pytest.raises(FrameError):
        door.take({**rows_at(ROWS), **change})

    assert [] == door.copies
