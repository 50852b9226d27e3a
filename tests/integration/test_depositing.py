"""What is too large for the channel goes to the storage and comes from there, whatever fails or dies on the way."""

import asyncio
import errno
import os
import signal
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import pytest

from cortex.child_process.children import Children
from cortex.depositing.events import Copied, Copy, Done, Event, Failed, Missing, NotCopied, Stored
from cortex.depositing.places import PIECE_BYTES, JobPlace, RowsName, root_of
from cortex.depositing.process import Depositors
from cortex.domain.errors import StartRefused
from cortex.domain.layout import JobFolder
from cortex.files.places import AllFiles
from cortex.storage.segments import SegmentWriter
from cortex.worker.source import SourceFile
from processes import children_named
from s3_server import S3

BATCHES = [b'["' + bytes([97 + number % 26]) * 200_000 + b'"]' for number in range(100)]
PAYLOAD = b"".join(BATCHES)  # three pieces
PIECES = [(0, 0), (0, 1), (0, 2)]


class Place:
    """A storage, and a data directory."""

    def __init__(self, data: Path, storage: str) -> None:
        data.mkdir()
        self.data = data
        self.root = root_of(storage, data)
        self.files = AllFiles()
        self.folder = JobFolder(data / "job")
        with SegmentWriter(self.folder) as writer:
            writer.extend(BATCHES)
            writer.complete()

    def use(self, story: Callable[[Depositors], Awaitable[Any]]) -> Any:
        """Use the storage as an operator does."""

        async def use() -> Any:
            children = Children()
            try:
                return await story(Depositors(children=children, root=self.root, log=self.data / "depositing.log"))
            finally:
                await children.close()

        return asyncio.run(use())

    def upload(self, pieces: Sequence[tuple[int, int]] = PIECES) -> list[Event]:
        return self.use(lambda depositors: all_of(depositors.upload("job", self.folder, pieces)))

    def copy(self, *copies: Copy) -> list[Event]:
        return self.use(lambda depositors: all_of(depositors.copy(copies)))

    def there(self) -> dict[str, bytes]:
        """Give what lies there, by its name below the operator's own."""
        return {
            file.url.removeprefix(f"{self.root}/"): self.files.read_range(file.url, 0, file.size_bytes)
            for file in self.files.list(f"{self.root}/")
        }

    def leave_rows(self, offset: int, data: bytes, worker: str = "job-1") -> Copy:
        """Leave rows there as a station does."""
        name = RowsName.of(offset, data)
        self.files.write(JobPlace(self.root, "job").rows(worker, name), data)
        return Copy(job_id="job", worker=worker, name=str(name), rows=str(self.folder.rows(worker)))


def offsets_of(batches: Sequence[bytes]) -> bytes:
    """Give the index of Batches that stay in a file."""
    return array("I", accumulate(map(len, batches), initial=0)).tobytes()


async def all_of(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(tmp_path / "data", str(tmp_path / "shared"))
    return Place(tmp_path / "data", request.getfixturevalue("s3").url("some/prefix"))


@pytest.fixture
def s3_place(s3: S3, tmp_path: Path) -> Place:
    return Place(tmp_path / "data", s3.url("prefix"))


def puts(s3: S3) -> list[str]:
    return [where.split("?")[0].rpartition("/")[2] for method, where, _ in s3.faults.requests if method == "PUT"]


def test_the_bytes_of_a_segment_are_there_in_pieces(place: Place) -> None:
    told = place.upload()

    cut = {f"job/segments/000000/{n:05}": PAYLOAD[n * PIECE_BYTES : (n + 1) * PIECE_BYTES] for n in range(3)}
    assert cut == place.there()
    assert ({Stored(segment=0, number=n) for n in range(3)}, Done()) == (set(told[:-1]), told[-1])


def test_what_is_there_already_is_not_brought_again(s3: S3, s3_place: Place) -> None:
    s3_place.upload([(0, 1)])
    s3.faults.requests.clear()
    told = s3_place.upload()

    assert ["00000", "00002"] == sorted(puts(s3))
    assert {Stored(segment=0, number=n) for n in range(3)} == set(told[:-1])


def test_batches_that_are_lines_in_a_file_of_the_users_are_there_as_they_lie_in_it(
    place: Place, tmp_path: Path
) -> None:
    line = b"1" * 99_999 + b"\n"
    users = tmp_path / "lines"
    users.write_bytes(b"before\n" + line * 100)
    facts = users.stat()
    source = SourceFile(path=str(users), size=facts.st_size, mtime_ns=facts.st_mtime_ns, inode=facts.st_ino, base=7)
    with SegmentWriter(place.folder, number=1, first=100) as writer:
        writer.refer(source, offsets_of([line] * 100))
    place.upload([(1, 0), (1, 1)])

    whole = line * 100
    cut = {"job/segments/000001/00000": whole[:PIECE_BYTES], "job/segments/000001/00001": whole[PIECE_BYTES:]}
    assert cut == place.there()


def test_of_a_file_that_has_changed_nothing_is_brought(place: Place, tmp_path: Path) -> None:
    users = tmp_path / "lines"
    users.write_bytes(b"1\n" * 10)
    facts = users.stat()
    source = SourceFile(path=str(users), size=facts.st_size, mtime_ns=facts.st_mtime_ns, inode=facts.st_ino, base=0)
    with SegmentWriter(place.folder, number=1, first=100) as writer:
        writer.refer(source, offsets_of([b"1\n"] * 10))
    users.write_bytes(b"2\n" * 10)
    told = place.upload([(0, 2), (1, 0)])

    assert [Stored, Missing, Done] == [type(event) for event in told]
    assert ["job/segments/000000/00002"] == list(place.there())


def test_a_bucket_that_refuses_is_told(s3: S3, s3_place: Place) -> None:
    s3.faults.refuse("403 Forbidden", "AccessDenied", method="PUT", matching="00001", times=9)
    told = s3_place.upload()

    assert isinstance(told[-1], Failed)
    assert "access is denied" in told[-1].reason
    assert Stored(segment=0, number=1) not in told


def test_a_process_that_is_killed_leaves_whole_pieces_and_the_next_one_the_rest(s3: S3, s3_place: Place) -> None:
    def kill() -> None:
        (child,) = children_named("cortex-deposit", psutil.Process().pid)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

    s3.faults.before(kill, method="PUT", matching="00002")
    first = s3_place.upload()
    second = s3_place.upload()

    assert isinstance(first[-1], Failed)
    assert "was killed" in first[-1].reason
    assert Done() == second[-1]
    assert PAYLOAD == b"".join(content for _, content in sorted(s3_place.there().items()))


def test_rows_are_copied_to_where_they_belong_and_are_there_no_more(place: Place) -> None:
    place.folder.rows("job-1").write_bytes(b"0123456789")
    told = place.copy(place.leave_rows(4, b"abc"), place.leave_rows(12, b"xyz"), place.leave_rows(0, b"-", "job-2"))

    assert b"0123abc789\0\0xyz" == place.folder.rows("job-1").read_bytes()
    assert b"-" == place.folder.rows("job-2").read_bytes()
    assert {0, 1, 2} == {event.index for event in told if isinstance(event, Copied)}
    assert {} == place.there()


def test_rows_that_are_gone_or_damaged_are_not_copied(place: Place) -> None:
    gone, damaged = place.leave_rows(0, b"gone"), place.leave_rows(10, b"right")
    rows = JobPlace(place.root, "job")
    place.files.remove(rows.rows("job-1", RowsName.read(gone.name)))
    place.files.write(rows.rows("job-1", RowsName.read(damaged.name)), b"wrong")
    told = place.copy(gone, damaged)

    assert {0, 1} == {event.index for event in told if isinstance(event, NotCopied)}
    assert not place.folder.rows("job-1").exists()


def test_rows_wait_where_they_are_while_the_operators_disk_is_full(place: Place) -> None:
    copy = place.leave_rows(0, b"rows")
    place.folder.rows("job-1").symlink_to("/dev/full")
    told = place.copy(copy)

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert [NotCopied(index=0, reason=str(full), is_full=True), Done()] == told
    assert [b"rows"] == list(place.there().values())


def test_rows_of_a_job_that_was_removed_are_not_copied(place: Place, tmp_path: Path) -> None:
    copy = place.leave_rows(0, b"rows")
    place.folder.workers.rename(tmp_path / "removed")

    assert isinstance(place.copy(copy)[0], NotCopied)


def test_all_that_is_there_of_a_job_is_found_and_removed(place: Place) -> None:
    for job in ("a", "ab", "b"):
        for name in ("segments/000000/00000", "rows/x/0-1-00000000"):
            place.files.write(f"{place.root}/{job}/{name}", b"x")

    async def story(depositors: Depositors) -> tuple[list[str], Event, list[str]]:
        return await depositors.find(), await depositors.remove(["a", "b", "none"]), await depositors.find()

    assert (["a", "ab", "b"], Done(), ["ab"]) == place.use(story)


def test_a_storage_is_tried_before_an_operator_relies_on_it(place: Place) -> None:
    place.use(lambda depositors: depositors.check())

    assert {} == place.there()


@pytest.mark.parametrize(("method", "needed"), [("PUT", "s3:PutObject"), ("GET", "s3:GetObject")])
def test_a_storage_that_refuses_keeps_the_operator_from_starting(
    s3: S3, s3_place: Place, method: str, needed: str
) -> None:
    s3.faults.refuse("403 Forbidden", "AccessDenied", method=method, times=9)

    with pytest.raises(StartRefused, match=r"--storage: .*access is denied") as refused:
        s3_place.use(lambda depositors: depositors.check())
    assert needed in str(refused.value.hint)


def test_a_folder_that_cannot_be_written_keeps_the_operator_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = Place(tmp_path / "data", str(tmp_path / "file"))

    with pytest.raises(StartRefused, match=r"--storage: .*cannot be written"):
        place.use(lambda depositors: depositors.check())


def test_two_operators_share_a_storage_and_each_knows_its_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for data in (one, other):
        data.mkdir()

    assert root_of("s3://bucket/", one) == root_of("s3://bucket", one)
    assert root_of("s3://bucket", one) != root_of("s3://bucket", other)
