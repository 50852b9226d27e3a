"""Large files that come over one connection where it is quick, and over several where it is slow."""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice

import pytest

from cortex.domain.errors import FileChanged, FilesError
from cortex.files.bodies import BrokenOff, Pieces
from cortex.files.files import FileInfo
from cortex.files.patience import Patience
from cortex.files.ranged import CONNECTIONS, RANGE_BYTES, TRIAL_BYTES, quick_body
from waiting import wait_until

PIECE_BYTES = 2**18 - 1  # so that pieces, ranges and the trial end in different places
QUICK = 100e6
DATA = bytes(islice(cycle(range(251)), TRIAL_BYTES + 20 * RANGE_BYTES + 12_345))

Asked = tuple[int, int | None]


@dataclass(slots=True, kw_only=True)
class Storage:
    """Gives one file, at a rate that its own clock shows."""

    bytes_per_second: float
    data: bytes = DATA
    before: Callable[[int, int | None], None] = lambda position, end: None
    asked: list[Asked] = field(default_factory=list)
    closed: list[Asked] = field(default_factory=list)
    held: threading.Event | None = None  # without it, a range gives no second piece
    given_in_ranges: int = 0
    now: float = 0.0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, position: int, end: int | None) -> Pieces:
        self.asked.append((position, end))
        try:
            self.before(position, end)
            stop = len(self.data) if end is None else end
            for begin in range(position, stop, PIECE_BYTES):
                piece = self.data[begin : min(begin + PIECE_BYTES, stop)]
                self.now += len(piece) / self.bytes_per_second
                if end is not None:
                    if self.held is not None and begin > position:
                        assert self.held.wait(60)
                    with self.counting:
                        self.given_in_ranges += len(piece)
                yield piece
        finally:
            self.closed.append((position, end))

    def body(self) -> Pieces:
        file = FileInfo(url="s3://bucket/key", size_bytes=len(self.data), version="1")
        patience = Patience(attempts=3, first_pause_seconds=0.001, longest_pause_seconds=0.001)
        return quick_body(file, self.ask, patience, quick=QUICK, clock=lambda: self.now)

    def ranges(self) -> list[Asked]:
        return [asked for asked in self.asked if asked[1] is not None]


@pytest.fixture(autouse=True)
def no_thread_stays() -> "object":
    yield
    wait_until(lambda: not any(each.name.startswith("read-range") for each in threading.enumerate()), "threads ended")


def test_a_quick_connection_stays_alone() -> None:
    storage = Storage(bytes_per_second=2 * QUICK)

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


@pytest.mark.parametrize("size", [0, 1, TRIAL_BYTES, TRIAL_BYTES + RANGE_BYTES])
def test_what_one_connection_gives_in_a_moment_is_left_to_it(size: int) -> None:
    storage = Storage(bytes_per_second=1, data=DATA[:size])

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


@pytest.mark.parametrize("more", [1, RANGE_BYTES, RANGE_BYTES + 1, 3 * RANGE_BYTES, 18 * RANGE_BYTES + 12_345])
def test_a_slow_connection_gets_company(more: int) -> None:
    trial_bytes = -(-TRIAL_BYTES // PIECE_BYTES) * PIECE_BYTES
    storage = Storage(bytes_per_second=QUICK / 2, data=DATA[: trial_bytes + RANGE_BYTES + more])

    assert storage.data == b"".join(storage.body())
    ranges = sorted(storage.ranges())
    assert [end for _, end in ranges[:-1]] == [begin for begin, _ in ranges[1:]]
    assert len(storage.data) == ranges[-1][1]
    assert trial_bytes + RANGE_BYTES == ranges[0][0]


def test_how_long_an_answer_takes_to_begin_does_not_count() -> None:
    def wait(position: int, end: int | None) -> None:
        storage.now += 60

    storage = Storage(bytes_per_second=2 * QUICK, before=wait)

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


def test_ranges_are_asked_for_at_the_same_time_and_no_more_than_there_are_connections() -> None:
    together = threading.Barrier(CONNECTIONS)

    def meet(position: int, end: int | None) -> None:
        if end is not None and len(storage.ranges()) <= CONNECTIONS:
            together.wait(timeout=60)

    storage = Storage(bytes_per_second=1, before=meet)

    with closing(storage.body()) as body:
        position = 0
        while position < TRIAL_BYTES + RANGE_BYTES + 3 * PIECE_BYTES:  # in the first range
            position += len(next(body))
        wait_until(lambda: len(storage.closed) == CONNECTIONS + 2, "all that may be asked for has come")
        assert CONNECTIONS + 1 == len(storage.ranges())  # the one that is read, and those ahead of it


def test_a_range_that_breaks_off_is_asked_for_from_there() -> None:
    broken: list[Asked] = []

    def ask(position: int, end: int | None) -> Pieces:
        pieces = storage_ask(position, end)
        yield next(pieces)
        if end is not None and not broken:
            broken.append((position, end))
            raise BrokenOff(FilesError("it broke"))
        yield from pieces

    storage = Storage(bytes_per_second=1)
    storage_ask = storage.ask
    file = FileInfo(url="s3://bucket/key", size_bytes=len(DATA), version="1")
    patience = Patience(attempts=2, first_pause_seconds=0.001)

    body = quick_body(file, ask, patience, quick=QUICK, clock=lambda: storage.now)

    assert b"".join(body) == DATA
    ((begin, end),) = broken
    assert (begin + PIECE_BYTES, end) in storage.asked


def test_a_server_that_gives_no_ranges_is_read_on_over_the_one_connection() -> None:
    def refuse(position: int, end: int | None) -> None:
        if end is not None:
            raise FilesError("it gives no ranges")

    storage = Storage(bytes_per_second=1, before=refuse)

    assert storage.data == b"".join(storage.body())
    assert 1 <= len(storage.ranges()) <= CONNECTIONS


def test_a_later_range_that_is_not_there_is_told() -> None:
    def change(position: int, end: int | None) -> None:
        if position > len(DATA) // 2:
            raise FileChanged("it has changed")

    storage = Storage(bytes_per_second=1, before=change)

    with pytest.raises(FileChanged, match="it has changed"):
        b"".join(storage.body())


def test_closing_early_stops_every_connection() -> None:
    storage = Storage(bytes_per_second=1, held=threading.Event())
    body = storage.body()
    position = 0
    while position < TRIAL_BYTES + RANGE_BYTES:
        position += len(next(body))
    wait_until(lambda: CONNECTIONS * PIECE_BYTES == storage.given_in_ranges, "each has given a piece")

    body.close()
    storage.held.set()

    wait_until(lambda: sorted(storage.asked, key=str) == sorted(storage.closed, key=str), "all are closed")
    assert 2 * CONNECTIONS * PIECE_BYTES >= storage.given_in_ranges


def test_where_the_first_range_fails_the_others_are_stopped() -> None:
    def refuse(position: int, end: int | None) -> None:
        if end is not None and position < TRIAL_BYTES + 2 * RANGE_BYTES:
            raise FilesError("it gives no ranges")

    storage = Storage(bytes_per_second=1, before=refuse, held=threading.Event())
    body = storage.body()
    position = 0
    while position < TRIAL_BYTES + 3 * RANGE_BYTES:
        position += len(next(body))

    storage.held.set()
    wait_until(lambda: CONNECTIONS == len(storage.closed), "all but the one that goes on are closed")

    assert 2 * CONNECTIONS * PIECE_BYTES >= storage.given_in_ranges
    body.close()
