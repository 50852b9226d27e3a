"""Large files that come over one connection where it is quick, and over several where it is slow."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import pytest

from cortex.domain.errors import FileChanged, FilesError
from cortex.files import ranged
from cortex.files.bodies import BrokenOff, Pieces
from cortex.files.files import FileInfo
from cortex.files.patience import Patience
from cortex.files.ranged import CONNECTIONS, RANGE_BYTES, TRIAL_BYTES, quick_body
from waiting import wait_until

PIECE_BYTES = 2**18 - 1  # so that pieces, ranges and the trial end in different places
QUICK = 150e6
BEGIN = -(-TRIAL_BYTES // PIECE_BYTES) * PIECE_BYTES + RANGE_BYTES
"""Where the first range does."""
DATA = bytes(islice(cycle(range(251)), TRIAL_BYTES + 20 * RANGE_BYTES + 12_345))

FUTURES: list[Future[Any]] = []
"""Of the ranges, in order."""

Asked = tuple[int, int | None]


@dataclass(kw_only=True)
class Storage:
    """Gives one file, at a rate that its own clock shows.

    Where its first connection has company, that gives nothing of the first range until it has come, or has failed.
    """

    bytes_per_second: float
    data: bytes = DATA
    before: Callable[[int, int | None], None] = lambda position, end: None
    asked: list[Asked] = field(default_factory=list)
    closed: list[Asked] = field(default_factory=list)
    held: threading.Event | None = None  # until it is set, a range gives one piece
    answer_seconds: float = 0.0
    lets_ranges_come: bool = True
    given_in_ranges: int = 0
    now: float = 0.0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, position: int, end: int | None) -> Pieces:
        self.asked.append((position, end))
        try:
            self.before(position, end)
            self.now += self.answer_seconds
            stop = len(self.data) if end is None else end
            begin = position
            while begin < stop:
                piece = self.data[begin : min(begin + PIECE_BYTES, stop)]
                self.now += len(piece) / self.bytes_per_second
                if end is None and begin >= BEGIN and self.lets_ranges_come:
                    wait(FUTURES[:1], timeout=60)
                if end is not None:
                    if self.held is not None and begin > position:
                        assert self.held.wait(60)
                    with self.counting:
                        self.given_in_ranges += len(piece)
                yield piece
                begin += len(piece)
        finally:
            self.closed.append((position, end))

    def body(self) -> Pieces:
        file = FileInfo(url="s3://bucket/key", size_bytes=len(self.data), version="1")
        patience = Patience(attempts=3, first_pause_seconds=0.001, longest_pause_seconds=0.001)
        return quick_body(file, self.ask, patience, clock=lambda: self.now)

    def ranges(self) -> list[Asked]:
        return [asked for asked in self.asked if asked[1] is not None]


class Pool(ThreadPoolExecutor):
    """Shows what it was given to do."""

    def submit(self, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        future = super().submit(*arguments)
        FUTURES.append(future)
        return future


@pytest.fixture(autouse=True)
def no_thread_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ranged, "ThreadPoolExecutor", Pool)
    FUTURES.clear()
    yield
    wait_until(lambda: not any(each.name.startswith("read-range") for each in threading.enumerate()), "threads ended")


def test_a_quick_connection_stays_alone() -> None:
    storage = Storage(bytes_per_second=2 * QUICK)

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


@pytest.mark.parametrize("size", [0, 1, TRIAL_BYTES, BEGIN - 1, BEGIN])
def test_what_one_connection_gives_in_a_moment_is_left_to_it(size: int) -> None:
    storage = Storage(bytes_per_second=1, data=DATA[:size])

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


@pytest.mark.parametrize("more", [1, RANGE_BYTES, RANGE_BYTES + 1, 3 * RANGE_BYTES, 18 * RANGE_BYTES + 12_345])
def test_a_slow_connection_gets_company(more: int) -> None:
    storage = Storage(bytes_per_second=QUICK / 2, data=DATA[: BEGIN + more])

    assert storage.data == b"".join(storage.body())
    ranges = sorted(storage.ranges())
    assert [end for _, end in ranges[:-1]] == [begin for begin, _ in ranges[1:]]
    assert len(storage.data) == ranges[-1][1]
    assert BEGIN == ranges[0][0]


@pytest.mark.parametrize(("answer_seconds", "are_quicker"), [(0.0, True), (0.05, True), (0.2, False)])
def test_where_answers_take_long_to_begin_ranges_are_no_quicker(answer_seconds: float, are_quicker: bool) -> None:
    storage = Storage(bytes_per_second=50e6, answer_seconds=answer_seconds)

    assert storage.data == b"".join(storage.body())
    assert are_quicker == bool(storage.ranges())


def test_how_long_the_answer_took_to_begin_does_not_make_a_connection_slow() -> None:
    storage = Storage(bytes_per_second=2 * QUICK, answer_seconds=60)

    assert storage.data == b"".join(storage.body())
    assert [(0, None)] == storage.asked


def test_while_no_range_comes_the_one_connection_is_read_on() -> None:
    held = threading.Event()
    storage = Storage(bytes_per_second=1, lets_ranges_come=False, held=held)

    assert storage.data == b"".join(storage.body())
    held.set()


def test_ranges_are_asked_for_at_the_same_time_and_no_more_than_there_are_connections() -> None:
    together = threading.Barrier(CONNECTIONS)

    def meet(position: int, end: int | None) -> None:
        if end is not None and len(storage.ranges()) <= CONNECTIONS:
            together.wait(timeout=60)

    storage = Storage(bytes_per_second=1, before=meet)

    with closing(storage.body()) as body:
        while len(FUTURES) <= CONNECTIONS:
            next(body)
        wait_until(lambda: len(storage.closed) == CONNECTIONS + 2, "all that may be asked for has come")
        assert CONNECTIONS + 1 == len(storage.ranges())  # the one that is read, and those ahead of it


@pytest.mark.parametrize("after_bytes", [1, RANGE_BYTES // 2, RANGE_BYTES])
def test_a_range_that_breaks_off_is_asked_for_from_there(after_bytes: int) -> None:
    first_ends_at, broken = BEGIN + RANGE_BYTES, list[int]()

    def ask(position: int, end: int | None) -> Pieces:
        given = 0
        for piece in storage_ask(position, end):
            if end != first_ends_at or broken or given + len(piece) < after_bytes:
                given += len(piece)
                yield piece
                continue
            yield piece[: after_bytes - given]
            broken.append(position + after_bytes)
            raise BrokenOff(FilesError("it broke"))

    storage = Storage(bytes_per_second=QUICK / 2)
    storage_ask, storage.ask = storage.ask, ask  # type: ignore[method-assign]

    assert storage.data == b"".join(storage.body())
    assert [BEGIN + after_bytes] == broken
    assert (after_bytes < RANGE_BYTES) == ((BEGIN + after_bytes, first_ends_at) in storage.asked)


def test_a_server_that_goes_on_behind_a_range_is_left_to_one_connection() -> None:
    def ask(position: int, end: int | None) -> Pieces:
        return storage_ask(position, end and len(storage.data))

    storage = Storage(bytes_per_second=QUICK / 2)
    storage_ask, storage.ask = storage.ask, ask  # type: ignore[method-assign]

    assert storage.data == b"".join(storage.body())
    assert CONNECTIONS * (RANGE_BYTES + PIECE_BYTES) >= storage.given_in_ranges


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
