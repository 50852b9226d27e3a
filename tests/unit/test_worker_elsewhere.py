"""What is said to a Worker elsewhere comes in order, also where the items of a Lease are slow to come."""

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cortex.domain.frame import Frame, Message
from cortex.domain.layout import JobFolder
from cortex.operator.stations.cargo import Cargo
from cortex.operator.stations.peers import WorkerElsewhere
from cortex.storage.pages import create_page
from cortex.storage.segments import index_of, write_segments
from cortex.worker.source import SourceFile
from scripted_station import WORKER, ticket_of

LINES = [b"1\n", b"2\n", b"3\n"]
LEASE: Frame = {"type": "lease", "segment": 0, "segment_first": 0}


class Elsewhere:
    """A Worker elsewhere whose Job's items are in a file of the user's, on a disk that answers when it is told to."""

    def __init__(self, folder: JobFolder) -> None:
        self.sent: list[Frame] = []
        self.reading = deque[tuple[Callable[[], Sequence[Message]], Callable[[Sequence[Message]], None]]]()
        self.worker = WorkerElsewhere(
            to_station=lambda frame, _: self.sent.append(frame),
            ticket=ticket_of(folder),
            cargo=Cargo(),
            read=lambda work, then: self.reading.append((work, then)),
        )

    def lease(self, token: int, first: int, end: int) -> None:
        self.worker.send({**LEASE, "token": token, "first": first, "end": end})

    def answer(self) -> None:
        work, then = self.reading.popleft()
        then(work())

    @property
    def told(self) -> list[object]:
        """Give what was sent, Leases by their tokens."""
        return [frame["token"] if frame["type"] == "lease" else frame["type"] for frame in self.sent]


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.segments.mkdir(parents=True)
    folder.workers.mkdir()
    create_page(folder, WORKER)
    return folder


@pytest.fixture
def elsewhere(folder: JobFolder, tmp_path: Path) -> Elsewhere:
    users = tmp_path / "items.jsonl"
    users.write_bytes(b"".join(LINES))
    index = index_of(LINES)[: 4 * (len(LINES) + 1)]
    about = users.stat()
    facts = {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "inode": about.st_ino}
    folder.source(0).write_bytes(SourceFile(path=str(users), base=0, **facts).with_index(index).to_json())
    folder.offsets(0).write_bytes(index)
    folder.states(0).write_bytes(bytes(len(LINES)))
    return Elsewhere(folder)


def test_what_is_said_after_a_lease_that_is_being_read_waits_for_it(elsewhere: Elsewhere) -> None:
    elsewhere.lease(1, 0, 1)
    elsewhere.worker.settle(1, 1, lambda: None)
    elsewhere.lease(2, 1, 3)
    elsewhere.worker.send({"type": "run_hook"})

    told = [elsewhere.told]
    while elsewhere.reading:
        elsewhere.answer()
        told.append(elsewhere.told)

    assert [[], [1, "limit"], [1, "limit", 2, "run_hook"]] == told


def test_a_lease_that_was_read_too_late_goes_to_nobody(elsewhere: Elsewhere) -> None:
    elsewhere.lease(1, 0, 3)
    elsewhere.worker.send({"type": "run_hook"})

    elsewhere.worker.close()
    elsewhere.answer()

    assert [] == elsewhere.told


def test_items_that_are_the_operators_own_are_sent_at_once(folder: JobFolder) -> None:
    write_segments(folder, [b"[1]", b"[2]"])
    elsewhere = Elsewhere(folder)

    elsewhere.lease(1, 0, 2)
    elsewhere.worker.send({"type": "end"})

    assert [1, "end"] == elsewhere.told
