import re
import threading
import tracemalloc

import pytest

from cortex.worker.joblog import BoundedLog, RotatingLog
from full_disk import files_of_at_most

OWN = b"2020-07-16 14:56:10.276007:cortex:pid-1:INFO:processing batch 0000\n"
LIMIT = 1000


def notice_in(text: bytes) -> tuple[int, int] | None:
    """Give how many of our own lines and of others the log says were dropped."""
    found = re.search(rb"(-?\d+) 'processing batch' lines and (-?\d+) others were dropped\n$", text)
    return (int(found[1]), int(found[2])) if found else None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.mark.parametrize(
    ("expected", "pieces"),
    [
        (b"", []),
        (b"", [b""]),
        (b"a\n", [b"a\n"]),
        (b"a\nb\n", [b"a\nb\n"]),
        (b"ab\n", [b"a", b"b\n"]),
        (b"ab\ncd\n", [b"a", b"b\nc", b"d\n"]),
        (b"last\n", [b"la", b"st"]),
        (b"\n\n", [b"\n", b"\n"]),
        (b"10%\r20%\r100%\n", [b"10%\r20%", b"\r100%\n"]),
        (b"\xff\x00\n", [b"\xff\x00\n"]),
    ],
)
def test_lines_are_appended_whole_and_what_is_left_at_the_end(path, expected, pieces):
    log = BoundedLog(path, LIMIT)

    for piece in pieces:
        log.write(piece)
    log.close()

    assert expected == path.read_bytes()


def test_an_unfinished_line_waits_for_its_end(path):
    log = BoundedLog(path, LIMIT)

    log.write(b"one\ntw")
    waiting = path.read_bytes()
    log.write(b"o\n")

    assert (waiting, path.read_bytes()) == (b"one\n", b"one\ntwo\n")
    log.close()


def test_lines_of_several_workers_never_mix(path):
    logs = [BoundedLog(path, 10**6) for _ in range(3)]

    for letter in range(200):
        for number, log in enumerate(logs):
            log.write(f"{number}{'x' * (letter % 7)}".encode())
            log.write(f"{number}\n".encode())
    for log in logs:
        log.close()

    lines = path.read_text().splitlines()
    assert len(lines) == 600
    assert all(re.fullmatch(r"(\d)x*\1", line) for line in lines)


def test_a_log_that_has_lines_already_is_gone_on_with(path):
    path.write_bytes(b"spinning up workers...\n")

    log = BoundedLog(path, LIMIT)
    log.write(b"a\n")
    log.close()

    assert path.read_bytes() == b"spinning up workers...\na\n"


def test_a_log_below_its_limit_says_nothing_of_it(path):
    log = BoundedLog(path, LIMIT)

    log.write(b"x" * (LIMIT - 1) + b"\n")
    log.close()

    assert LIMIT == len(path.read_bytes())


def test_our_own_lines_are_dropped_first(path):
    log = BoundedLog(path, LIMIT)
    printed = [f"printed {number}\n".encode() for number in range(10)]

    for _ in range(50):
        log.write(OWN)
    for line in printed:
        log.write(OWN + line)
    log.close()

    text = path.read_bytes()
    own, others = notice_in(text)
    assert all(line in text for line in printed)
    assert (60, 0) == (own + text.count(OWN), others)
    assert len(text) < LIMIT + 200


def test_a_flood_is_bounded_and_one_line_says_how_much_was_dropped(path):
    log = BoundedLog(path, LIMIT)

    for number in range(10_000):
        log.write(f"line {number}\n".encode())
    log.close()

    *kept, notice = path.read_bytes().splitlines(keepends=True)
    assert [f"line {number}\n".encode() for number in range(len(kept))] == kept
    assert notice.startswith(b"the log has reached its limit of 1000 bytes (--log-limit)")
    assert (0, 10_000 - len(kept)) == notice_in(notice)
    assert LIMIT * 0.9 < sum(len(line) for line in kept) <= LIMIT


def test_lines_are_counted_however_they_are_written_together(path):
    log = BoundedLog(path, LIMIT)
    log.write(b"x" * 799 + b"\n")

    log.write(b"1%\r2%\r3%\n" + OWN + OWN + b"a\n")
    log.write(OWN + b"b\n")
    log.close()

    text = path.read_bytes()
    assert b"1%\r2%\r3%\na\nb\n" in text
    assert (3, 0) == notice_in(text)


def test_lines_that_a_worker_has_not_written_are_counted_with_those_that_were_dropped(path):
    log = BoundedLog(path, LIMIT)
    log.write(b"x" * 799 + b"\n")
    assert not log.drops_own_lines

    log.write(OWN)
    assert log.drops_own_lines
    log.close(left_out=41)

    assert (42, 0) == notice_in(path.read_bytes())


def test_a_line_without_an_end_is_not_kept_without_end(path):
    log = BoundedLog(path, 256_000_000)
    piece = b"x" * 65_536

    tracemalloc.start()
    for _ in range(256):
        log.write(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.close()

    assert path.read_bytes().count(b"x") == 256 * len(piece)
    assert peak < 4_000_000


def test_a_gigabyte_without_a_line_end_does_not_fill_the_log(path):
    log = BoundedLog(path, LIMIT)

    for _ in range(1000):
        log.write(b"x" * 10_000)
    log.close()

    assert len(path.read_bytes()) <= LIMIT + 200
    assert notice_in(path.read_bytes()) is not None


def test_a_full_disk_costs_lines_and_not_the_worker(path):
    log = BoundedLog(path, 10**6)
    log.write(b"before\n")

    with files_of_at_most(20):
        log.write(b"there is no room for this line\n")
        log.write(b"\n")
    log.write(b"after\n")
    log.close()

    lines = path.read_bytes().splitlines()
    assert lines[0] == b"before"
    assert b"after" in lines
    assert b"there is no room for this line" not in lines


def test_the_limit_is_that_of_the_job_not_of_each_worker(path):
    logs = [BoundedLog(path, LIMIT) for _ in range(4)]

    def print_a_lot(log: BoundedLog) -> None:
        for number in range(100):
            log.write(f"line {number}\n".encode())

    threads = [threading.Thread(target=print_a_lot, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(path.read_bytes()) <= LIMIT + 4 * 10  # each may be in the middle of a line
    for log in logs:
        log.close()


@pytest.fixture
def older(path):
    return path.with_name("log.1")


def test_the_log_of_an_api_is_rotated_at_half_of_its_limit(path, older):
    log = RotatingLog(path, 40)

    for number in range(9):
        log.write(f"line {number}\n".encode())
    log.close()

    assert (b"line 6\nline 7\n", b"line 8\n") == (older.read_bytes(), path.read_bytes())


def test_of_the_log_of_an_api_the_newest_lines_are_kept_and_never_more_than_its_limit(path, older):
    logs = [RotatingLog(path, LIMIT) for _ in range(2)]
    lines = [f"{number} {'x' * (number % 50)}\n".encode() for number in range(500)]

    for number, line in enumerate(lines):
        logs[number % 2].write(line[:3])
        logs[(number + 1) % 2].write(b"")
        logs[number % 2].write(line[3:])
    for log in logs:
        log.close()

    kept = older.read_bytes() + path.read_bytes()
    assert b"".join(lines).endswith(kept)
    assert LIMIT / 2 <= len(kept) <= LIMIT


def test_a_line_that_is_longer_than_the_log_of_an_api_may_be_is_kept_whole(path, older):
    log = RotatingLog(path, 40)

    log.write(b"short\n" + b"x" * 100 + b"\n")
    log.write(b"after\n")
    log.close()

    assert (b"short\n" + b"x" * 100 + b"\n", b"after\n") == (older.read_bytes(), path.read_bytes())


def test_two_processes_of_an_api_never_tear_each_others_lines_when_its_log_is_rotated(path, older):
    first, second = RotatingLog(path, 100), RotatingLog(path, 100)

    first.write(b"begun by the first")
    for number in range(20):
        second.write(f"by the second {number}\n".encode())
    first.write(b", ended by the first\n")
    first.write(b"the last")
    for log in (first, second):
        log.close()

    lines = (older.read_bytes() + path.read_bytes()).splitlines()
    assert [b"by the second 19", b"begun by the first, ended by the first", b"the last"] == lines[-3:]
    assert all(re.fullmatch(rb"by the second \d+", line) for line in lines[:-2])


def test_the_log_of_an_api_that_was_deleted_is_written_no_more(path):
    path = path.parent / "api" / "log"
    path.parent.mkdir()
    log = RotatingLog(path, LIMIT)
    path.unlink()
    path.parent.rmdir()

    log.write(b"a\n")
    log.close()

    assert not path.parent.exists()


def test_on_a_full_disk_lines_of_an_api_are_lost_and_the_next_begins_anew(path):
    log = RotatingLog(path, LIMIT)

    with files_of_at_most(8):
        log.write(b"one\ntwo three\n")
        log.write(b"four\n")
    log.write(b"five\n")
    log.close()

    assert b"one\ntwo \nfive\n" == path.read_bytes()
