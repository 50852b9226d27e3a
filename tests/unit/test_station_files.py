"""What a station reads of the files that others write beside it, and what it unpacks."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from cortex.domain.batch import EntryKind
from cortex.domain.frame import PIECE_BYTES
from cortex.station.bundle import BundleDamaged, unpack
from cortex.station.log_tail import LogTail
from cortex.station.results import Results
from cortex.worker.joblog import open_log
from cortex.worker.rows import RowsFile


def told(tail: LogTail) -> list[tuple[int, bytes]]:
    return [(frame["offset"], data) for frame, data in tail.news()]


def test_a_log_is_told_as_it_grows(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log")
    assert [] == told(tail)

    (tmp_path / "log").write_bytes(b"one\n")
    assert [(0, b"one\n")] == told(tail)
    with (tmp_path / "log").open("ab") as log:
        log.write(b"two\n")
    assert [(4, b"two\n")] == told(tail)
    assert [] == told(tail)


def test_a_long_log_is_told_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * (PIECE_BYTES + 1))

    assert [(0, PIECE_BYTES), (PIECE_BYTES, 1)] == [
        (offset, len(data)) for offset, data in told(LogTail(tmp_path / "log"))
    ]


def test_what_of_a_log_is_not_known_to_have_arrived_is_told_again(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    told(tail)

    tail.is_known(4)
    tail.tell_again()

    assert [(4, b"two\n")] == told(tail)


def test_a_log_that_rotates_is_told_in_whole(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "log")
    log = open_log(tmp_path / "log", 80, rotates=True)
    written = b""
    collected: list[tuple[int, bytes]] = []

    for number in range(9):
        line = f"line {number:8}\n".encode()
        log.write(line)
        written += line
        if number % 2:
            collected += told(tail)
    collected += told(tail)

    assert written == b"".join(data for _, data in collected)
    assert [0, len(collected[0][1])] == [offset for offset, _ in collected[:2]]


@pytest.fixture
def worker(tmp_path: Path) -> RowsFile:
    return RowsFile(tmp_path / "rows", tmp_path / "index")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "rows", tmp_path / "index")


def rows_of(messages: object) -> list[tuple[int, bytes]]:
    return [(frame["offset"], data) for frame, data in messages]  # type: ignore[attr-defined]


def test_rows_are_told_when_their_entry_is_written(worker: RowsFile, results: Results, tmp_path: Path) -> None:
    worker.append(0, 1, EntryKind.ROWS, b"first\n", 1)
    with (tmp_path / "rows").open("ab") as rows:
        rows.write(b"torn")
    with (tmp_path / "index").open("ab") as index:
        index.write(b"torn")

    assert [(0, b"first\n")] == rows_of(results.news())
    assert [] == rows_of(results.news())
    worker.close()


def test_entries_are_given_until_they_are_known(worker: RowsFile, results: Results) -> None:
    worker.append(0, 1, EntryKind.ROWS, b"first\n", 1)
    first = results.entries()[:2]
    results.are_known()
    worker.append(1, 2, EntryKind.ROWS, b"second\n", 1)
    at, entries, rows = results.entries()

    assert (0, 40) == (first[0], len(first[1]))
    assert (40, 40) == (at, len(entries))
    assert [(0, b"first\nsecond\n")] == rows_of(rows)
    assert (at, entries) == results.entries()[:2]
    worker.close()


def test_rows_that_are_not_known_to_have_arrived_are_told_again(worker: RowsFile, results: Results) -> None:
    worker.append(0, 1, EntryKind.ROWS, b"first\n", 1)
    rows_of(results.entries()[2])
    results.are_known()
    worker.append(1, 2, EntryKind.ROWS, b"second\n", 1)
    rows_of(results.news())

    results.tell_again()

    assert [(6, b"second\n")] == rows_of(results.news())
    worker.close()


def test_rows_that_have_arrived_take_no_room(worker: RowsFile, results: Results, tmp_path: Path) -> None:
    worker.append(0, 1, EntryKind.ROWS, b"x" * (16 << 20), 1)
    before = (tmp_path / "rows").stat()
    rows_of(results.entries()[2])
    results.are_known()

    after = (tmp_path / "rows").stat()
    if after.st_blocks == before.st_blocks:
        pytest.skip("this file system gives no room back")
    assert before.st_size == after.st_size
    assert 0 == after.st_blocks
    worker.append(1, 2, EntryKind.ROWS, b"second\n", 1)
    assert [(16 << 20, b"second\n")] == rows_of(results.news())
    worker.close()


def bundle(tmp_path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(tmp_path / "bundle", "w") as archive:
        for entry in entries:
            content = b"content" if entry.isreg() else b""
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return tmp_path / "bundle"


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.linkname = kind, mode, link
    return made


def test_a_bundle_gives_its_files_and_which_of_them_can_run(tmp_path: Path) -> None:
    packed = bundle(tmp_path, entry("a", tarfile.DIRTYPE), entry("a/plain"), entry("b/run", mode=0o755))

    unpack(packed, tmp_path / "out")

    assert b"content" == (tmp_path / "out" / "a" / "plain").read_bytes()
    assert (False, True) == tuple(os.access(tmp_path / "out" / name, os.X_OK) for name in ("a/plain", "b/run"))


@pytest.mark.parametrize(
    "bad",
    [
        entry("/outside"),
        entry("../outside"),
        entry("link", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, link="other"),
        entry("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: bad.name.strip("./"),
)
def test_a_bundle_cannot_reach_outside(tmp_path: Path, bad: tarfile.TarInfo) -> None:
    with pytest.raises(BundleDamaged):
        unpack(bundle(tmp_path, bad), tmp_path / "out")

    assert ["bundle", "out"] == sorted(path.name for path in tmp_path.iterdir())


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle").write_bytes(b"nothing of the kind" * 100)

    with pytest.raises(BundleDamaged):
        unpack(tmp_path / "bundle", tmp_path / "out")
