"""The next files of a list are opened while one is read, where that is of use, and never too many."""

import io
import threading
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pytest

from cortex.domain.errors import FilesError
from cortex.enqueuing.upcoming import Upcoming
from cortex.files.files import FileInfo
from cortex.files.read_ahead import read_ahead

MB = 1024 * 1024
AT_ONCE = 16
TIMEOUT_SECONDS = 60


def listed(*sizes: int, place: str = "s3://bucket/") -> Sequence[FileInfo]:
    return [FileInfo(url=f"{place}{number:03}", size_bytes=size, version="1") for number, size in enumerate(sizes)]


class Place:
    """Opens files whose content is their URL, and knows which are open."""

    def __init__(self, *refused: str) -> None:
        self.open_now: list[str] = []
        self.most_open = 0
        self._refused = refused

    def open(self, file: FileInfo) -> BinaryIO:
        if file.url in self._refused:
            raise FilesError(f"{file.url} is refused")
        content = io.BytesIO(file.url.encode())
        self.open_now = [*self.open_now, file.url]
        self.most_open = max(self.most_open, len(self.open_now))
        close = content.close

        def close_and_note() -> None:
            close()
            self.open_now.remove(file.url)

        content.close = close_and_note  # type: ignore[method-assign]
        return content


def read_all(upcoming: Upcoming) -> Iterator[str]:
    for file in upcoming:
        with upcoming.open(file) as content:
            yield content.read().decode()


def test_files_that_are_far_away_answer_at_the_same_time() -> None:
    files = listed(*[1000] * AT_ONCE)
    all_ask = threading.Barrier(AT_ONCE)

    def ask(file: FileInfo) -> Iterator[bytes]:
        all_ask.wait(TIMEOUT_SECONDS)
        yield file.url.encode()

    def open_file(file: FileInfo) -> BinaryIO:
        return read_ahead((piece for piece in ask(file)), name=file.url)

    assert [file.url for file in files] == list(read_all(Upcoming(open_file, files, most_bytes=MB)))


def test_however_many_there_are_few_are_open() -> None:
    place, files = Place(), listed(*[1000] * 200)

    rows = list(read_all(Upcoming(place.open, files, most_bytes=MB)))

    assert [file.url for file in files] == rows
    assert (AT_ONCE, []) == (place.most_open, place.open_now)


def test_those_that_are_open_are_small_together() -> None:
    place = Place()
    upcoming, open_in_each_turn = Upcoming(place.open, listed(*[4 * MB] * 50), most_bytes=4 * MB), []

    for file in upcoming:
        open_in_each_turn.append(len(place.open_now))
        upcoming.open(file).close()

    assert [*[16 // 4] * 47, 3, 2, 1] == open_in_each_turn


def test_while_a_large_one_has_its_turn_nothing_else_is_open() -> None:
    place, files = Place(), listed(1, 1, MB + 1, 1, MB + 1, MB + 1, 1)
    upcoming = Upcoming(place.open, files, most_bytes=MB)
    others = []

    for file in upcoming:
        if file.size_bytes > MB:
            others += place.open_now
        upcoming.open(file).close()

    assert ([], 2) == (others, place.most_open)


def test_files_on_this_machine_are_opened_when_their_turn_comes() -> None:
    place = Place()

    rows = list(read_all(Upcoming(place.open, listed(1, 1, 1, place="/data/"), most_bytes=MB)))

    assert (["/data/000", "/data/001", "/data/002"], 1) == (rows, place.most_open)


def test_what_cannot_be_opened_is_told_in_its_turn() -> None:
    place = Place("s3://bucket/001")
    rows = read_all(Upcoming(place.open, listed(1, 1, 1), most_bytes=MB))

    assert "s3://bucket/000" == next(rows)
    with pytest.raises(FilesError, match="s3://bucket/001 is refused"):
        next(rows)


def test_nothing_is_left_open() -> None:
    place = Place()
    upcoming = Upcoming(place.open, listed(1, 1, 1), most_bytes=MB)
    upcoming.open(next(iter(upcoming))).close()
    assert ["s3://bucket/001", "s3://bucket/002"] == place.open_now

    upcoming.close()

    assert [] == place.open_now
