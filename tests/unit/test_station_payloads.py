"""A station takes what it finds at the storage only if it is what the operator has, and waits for no storage long."""

import os
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from cortex.depositing.places import MOST_ROWS_BYTES, RowsName
from cortex.domain.errors import FilesUnavailable
from cortex.files.folder import FolderFiles
from cortex.station.deposits import LEAST_BYTES, Deposits
from cortex.station.in_time import InTime, NotInTime
from cortex.station.payloads import StoredPayloads, Unfetched

BATCHES = [b"[1,2]", b"[]", b'["three"]']
DATA = b"".join(BATCHES)
OFFSETS = [0, 5, 7, 16]
CHECKSUMS = [zlib.crc32(batch) for batch in BATCHES]


@pytest.fixture
def payload(tmp_path: Path) -> dict[str, Any]:
    """What a Lease says of its payload, which lies in two files."""
    (tmp_path / "0").write_bytes(b"before" + DATA[:4])
    (tmp_path / "1").write_bytes(DATA[4:] + b"behind")
    pieces = [[str(tmp_path / "0"), 6, 4], [str(tmp_path / "1"), 0, 12]]
    return {"kind": "stored", "pieces": pieces, "bytes": 16, "lines": False}


def test_a_payload_is_read_where_it_lies(payload: dict[str, Any]) -> None:
    assert DATA == StoredPayloads().read(payload, OFFSETS, CHECKSUMS)


def test_another_content_is_not_taken(payload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"x" * 100)

    with pytest.raises(Unfetched, match="is not what the operator has there"):
        StoredPayloads().read(payload, OFFSETS, CHECKSUMS)


def test_a_payload_that_is_gone_is_not_taken(payload: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "1").unlink()

    with pytest.raises(Unfetched, match="has been removed"):
        StoredPayloads().read(payload, OFFSETS, CHECKSUMS)


def test_a_payload_of_another_length_is_not_taken(payload: dict[str, Any]) -> None:
    with pytest.raises(Unfetched, match="has 16 bytes, and not 17"):
        StoredPayloads().read({**payload, "bytes": 17}, OFFSETS, CHECKSUMS)


def test_a_place_that_there_is_not_is_said_to_be_none(payload: dict[str, Any]) -> None:
    with pytest.raises(Unfetched, match="ftp"):
        StoredPayloads().read({**payload, "pieces": [["ftp://host/x", 0, 16]]}, OFFSETS, CHECKSUMS)


def test_a_storage_that_hangs_is_not_waited_for(payload: dict[str, Any]) -> None:
    let_go = threading.Event()

    class Hanging(FolderFiles):
        def read_range(self, url: str, offset: int, length: int) -> bytes:
            let_go.wait()
            return b""

    payloads = StoredPayloads(files=Hanging(), in_time=InTime(0.01))
    reasons = []
    for _ in range(5):
        with pytest.raises(Unfetched) as failure:
            payloads.read(payload, OFFSETS, CHECKSUMS)
        reasons.append(str(failure.value))
    hanging = threading.active_count()
    let_go.set()

    assert ["the storage has not answered for 0.01 seconds"] * 4 == reasons[:4]
    assert "the storage has not answered for a long time" == reasons[4]
    assert hanging <= 6


def test_what_is_done_in_time_gives_what_it_gives() -> None:
    in_time = InTime(60)

    assert 3 == in_time.call(lambda: 3)
    with pytest.raises(ZeroDivisionError):
        in_time.call(lambda: 1 // 0)


def test_what_hangs_no_longer_is_tried_again() -> None:
    let_go = threading.Event()
    in_time = InTime(0.01)
    for _ in range(4):
        with pytest.raises(NotInTime):
            in_time.call(let_go.wait)
    let_go.set()
    for thread in threading.enumerate():
        if thread.name == "at the storage":
            thread.join()

    assert "again" == in_time.call(lambda: "again")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_large_rows_are_left_where_the_operator_finds_them(tmp_path: Path) -> None:
    deposits = Deposits(root=str(tmp_path), job_id="job", worker="job-1")

    name = deposits.leave(70, b"rows")

    assert str(RowsName.of(70, b"rows")) == name
    assert b"rows" == (tmp_path / "job" / "rows" / "job-1" / name).read_bytes()
    assert (False, True, True, False) == tuple(
        deposits.takes(size) for size in (LEAST_BYTES - 1, LEAST_BYTES, MOST_ROWS_BYTES, MOST_ROWS_BYTES + 1)
    )


def test_where_rows_could_not_be_left_nothing_is_tried_for_a_while_which_grows() -> None:
    class Failing(FolderFiles):
        def write(self, url: str, data: bytes) -> None:
            raise FilesUnavailable("it does not answer")

    clock = Clock()
    deposits = Deposits(root="/nowhere", job_id="job", worker="job-1", files=Failing(), monotonic=clock)
    left = deposits.leave(0, b"rows")
    takes = []
    for clock.now in (0, 29, 31):
        takes.append(deposits.takes(LEAST_BYTES))
    deposits.leave(0, b"rows")
    for clock.now in (31 + 59, 31 + 61):
        takes.append(deposits.takes(LEAST_BYTES))

    assert (None, "it does not answer") == (left, deposits.why_not)
    assert [False, False, True, False, True] == takes


def test_a_file_of_the_users_is_read_if_it_is_the_one_that_the_operator_has(tmp_path: Path) -> None:
    path = tmp_path / "a line"
    path.write_bytes(b"before" + DATA + b"behind")
    facts = path.stat()
    seen = [facts.st_size, facts.st_mtime_ns, facts.st_ino]
    payload = {"pieces": [[f"file://{tmp_path}/a%20line", 6, 16]], "bytes": 16, "lines": True, "facts": seen}
    read = StoredPayloads().read(payload, OFFSETS, [])
    os.utime(path, ns=(0, 1))

    assert DATA == read
    with pytest.raises(Unfetched, match="a%20line` is not there as the operator has it"):
        StoredPayloads().read(payload, OFFSETS, [])
    path.unlink()
    with pytest.raises(Unfetched, match="is not there as the operator has it"):
        StoredPayloads().read(payload, OFFSETS, [])
