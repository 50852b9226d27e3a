"""What a station sends of its worker's files, and where it is put."""

from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import HookState, Page
from cortex.domain.frame import FrameError
from cortex.domain.isolation import Part
from cortex.domain.layout import JobFolder
from cortex.operator.stations import intake as intake_module
from cortex.operator.stations.intake import Intake
from cortex.storage.pages import create_page, read_page, write_hook_started, write_lease
from cortex.worker.page import read_word, write_word
from job_files import make_job
from scripted_station import WORKER, ticket_of

SECOND = 10**9


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder, _ = make_job(tmp_path / "67160ace060e3bfa", 3)
    create_page(folder, WORKER)
    return folder


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now_ns


def intake_of(folder: JobFolder, clock: Clock | None = None, **more: Any) -> Intake:
    return Intake(ticket_of(folder, **more), now_ns=clock or Clock())


def page_with(**words: int) -> bytes:
    page = bytearray(Page.SIZE)
    for name, value in words.items():
        memoryview(page).cast("Q")[getattr(Page, name)] = value
    return bytes(page)


def test_of_a_page_the_words_of_the_worker_are_copied_and_no_others(folder: JobFolder) -> None:
    write_lease(folder, WORKER, token=9, first=1, limit=3)
    write_word(folder.page(WORKER), Page.IS_TO_END, 1)
    theirs = {"CURRENT": 3, "FINISHED": 7, "BUSY_NS": 5 * SECOND, "HOOK": 2, "PART_FIRST": 1, "PART_END": 4}
    others = {"TOKEN": 8, "FIRST": 8, "LIMIT": 8, "COPY_OF": 8, "IS_TO_END": 0, "LOG_IS_FULL": 8}

    intake_of(folder).take_page(page_with(**theirs, **others, LINES_LEFT_OUT=6), 0)

    page = read_page(folder, WORKER)
    assert (page.current, page.finished, page.busy_seconds, page.part) == (2, 7, 5.0, Part(1, 4))
    assert page.hook is HookState.SUCCEEDED
    assert (page.token, page.first, page.limit, page.is_copy) == (9, 1, 3, False)
    words = (Page.IS_TO_END, Page.LOG_IS_FULL, Page.LINES_LEFT_OUT)
    assert [read_word(folder.page(WORKER), word) for word in words] == [1, 0, 6]


def test_times_on_a_page_are_those_of_our_clock(folder: JobFolder) -> None:
    page = page_with(STARTED_AT_NS=4 * SECOND, NO_ROOM_SINCE_NS=5 * SECOND)
    intake_of(folder).take_page(page, 10 * SECOND)

    copy = read_page(folder, WORKER)
    assert copy.started_at_ns == (1000 - 6) * SECOND
    assert copy.no_room_since_ns == (1000 - 5) * SECOND


def test_a_call_of_predict_has_begun_at_one_time_however_often_that_is_told(folder: JobFolder) -> None:
    clock = Clock()
    intake = intake_of(folder, clock)
    intake.take_page(page_with(STARTED_AT_NS=4 * SECOND), 10 * SECOND)
    before = read_page(folder, WORKER).started_at_ns
    clock.now_ns += 3 * SECOND + 17  # what it took on its way
    intake.take_page(page_with(STARTED_AT_NS=4 * SECOND, FINISHED=1), 13 * SECOND)

    page = read_page(folder, WORKER)
    assert (page.started_at_ns, page.finished) == (before, 1)


def test_a_page_of_which_no_news_can_come_says_so_until_they_come(folder: JobFolder) -> None:
    intake = intake_of(folder)
    seen = []
    for _ in range(2):
        intake.take_page(page_with(CURRENT=3), 0)
        seen.append((read_page(folder, WORKER).current, read_page(folder, WORKER).is_cut_off))
        intake.close()
        seen.append((read_page(folder, WORKER).current, read_page(folder, WORKER).is_cut_off))

    assert seen == [(2, False), (2, True)] * 2


@pytest.mark.parametrize("now_ns", [-(2**70), 2**70])
def test_a_clock_that_is_off_by_ages_does_no_harm(folder: JobFolder, now_ns: int) -> None:
    intake_of(folder).take_page(page_with(STARTED_AT_NS=4 * SECOND), now_ns)

    assert read_page(folder, WORKER).started_at_ns in (0, 2**64 - 1)


@pytest.mark.parametrize("size", [0, Page.SIZE - 1, Page.SIZE + 1])
def test_what_is_no_page_is_refused(folder: JobFolder, size: int) -> None:
    with pytest.raises(FrameError):
        intake_of(folder).take_page(bytes(size), 0)


@pytest.mark.parametrize("now_ns", [1.5, float("nan"), None, True])
def test_a_page_of_no_instant_is_refused(folder: JobFolder, now_ns: Any) -> None:
    with pytest.raises(FrameError):
        intake_of(folder).take_page(page_with(STARTED_AT_NS=4), now_ns)


def test_what_a_replica_has_begun_is_not_known_before_its_station_says_that_it_is_gone(folder: JobFolder) -> None:
    intake = intake_of(folder, serves=True)
    seen = []
    for happens in (
        lambda: intake.take_page(page_with(CURRENT=6), 0),
        intake.worker_came,  # again, as after a cut
        intake.worker_went,
        intake.worker_came,
        lambda: intake.take_page(page_with(CURRENT=8), 0),
        intake.worker_went,
    ):
        happens()
        seen.append(read_page(folder, WORKER).current)

    assert seen == [None, None, 5, None, None, 7]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (True, HookState.NOT_STARTED, HookState.STARTED),
        (True, HookState.FAILED, HookState.FAILED),
        (False, HookState.NOT_STARTED, HookState.NOT_STARTED),
        (False, HookState.STARTED, HookState.STARTED),
    ],
)
def test_that_the_hook_has_begun_is_not_taken_back(
    folder: JobFolder, ours: bool, theirs: HookState, expected: HookState
) -> None:
    if ours:
        write_hook_started(folder, WORKER)
    intake_of(folder).take_page(page_with(HOOK=theirs), 0)

    assert read_page(folder, WORKER).hook is expected


def test_rows_lie_where_the_worker_has_written_them_however_often_they_come(
    folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_WRITE_BACK_BYTES", 4)
    intake = intake_of(folder)
    intake.take_rows(b"one\n", 0)
    intake.take_rows(b"three\n", 8)
    intake.close()
    intake = intake_of(folder)
    intake.take_rows(b"one\n", 0)
    intake.take_rows(b"two\n", 4)
    intake.close()

    assert folder.rows(WORKER).read_bytes() == b"one\ntwo\nthree\n"


def test_of_the_log_what_has_come_before_is_not_written_again(folder: JobFolder) -> None:
    intake = intake_of(folder)
    intake.take_log(b"one\ntwo\n", 0)
    intake.close()
    intake.take_log(b"two\nthr", 4)
    intake.take_log(b"two\n", 4)
    intake.take_log(b"ee\n", 11)
    intake.say("by the station")
    intake.close()

    assert folder.log.read_text() == "one\ntwo\nthree\nby the station\n"


def test_the_log_of_a_worker_elsewhere_has_the_limit_of_all_logs(folder: JobFolder) -> None:
    intake = Intake(ticket_of(folder, log_limit_bytes=10), now_ns=Clock())
    intake.take_log(b"one\n", 0)
    intake.take_log(b"far too long\n", 4)
    intake.close()

    assert folder.log.read_text().startswith("one\nthe log has reached its limit of 10 bytes")


def test_one_station_has_the_page_of_a_worker_and_no_other_ever(folder: JobFolder) -> None:
    assert intake_of(folder).begin(7)
    assert intake_of(folder).begin(7)
    assert not intake_of(folder).begin(8)
    assert read_page(folder, WORKER).is_copy


def test_the_files_of_a_worker_that_is_gone_are_not_made_again(tmp_path: Path) -> None:
    intake = intake_of(JobFolder(tmp_path / "gone"))

    assert intake.begin(7)
    for frame in (
        {"type": "page", "now_ns": 1, "data": page_with(FINISHED=1)},
        {"type": "rows", "offset": 0, "data": b"[]"},
        {"type": "log", "offset": 0, "data": b"line\n"},
    ):
        assert intake.take(frame)
    intake.close()
    assert list(tmp_path.iterdir()) == []
