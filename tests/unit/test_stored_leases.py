"""A Lease that does not carry its payload is about the same Batches as one that does."""

from array import array
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from cortex.depositing.items import find_items, open_items
from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.operator.stations.cargo import Cargo, pack_apart
from cortex.station.mirror import Mirror
from cortex.station.payloads import StoredPayloads
from cortex.storage.segments import index_of
from cortex.worker.segment import LeasedSegment
from cortex.worker.source import SourceFile

WORKER = "67160ace060e3bfa-01234567"
LINES = [f'{{"line": {number}}}\n'.encode() * (number % 3 + 1) for number in range(20)]
ARRAYS = [b"[%d]" % number * (number % 3 + 1) for number in range(20)]
LEASE: Frame = {"type": "lease", "token": 5, "segment": 0, "segment_first": 100, "first": 107, "end": 113}

Write = Callable[[JobFolder], None]


def write_payload(folder: JobFolder) -> None:
    folder.payload(0).write_bytes(b"".join(ARRAYS))
    folder.offsets(0).write_bytes(index_of(ARRAYS))


def write_lines(folder: JobFolder) -> None:
    folder.lines(0).write_bytes(b"".join(LINES))
    folder.offsets(0).write_bytes(index_of(LINES))


def write_source(folder: JobFolder) -> None:
    users = folder.root / "users file"
    users.write_bytes(b"before" + b"".join(LINES))
    about = users.stat()
    facts = {"size": about.st_size, "mtime_ns": about.st_mtime_ns, "inode": about.st_ino}
    index = array("I", accumulate(map(len, LINES), initial=0)).tobytes()
    folder.source(0).write_bytes(SourceFile(path=str(users), base=6, **facts).with_index(index).to_json())
    folder.offsets(0).write_bytes(index)


@pytest.fixture(params=[write_payload, write_lines, write_source], ids=["payload", "lines", "a file of the user's"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.segments.mkdir(parents=True)
    folder.states(0).write_bytes(bytes(20))
    request.param(folder)
    return folder


@pytest.fixture
def cargo() -> Iterator[Cargo]:
    cargo = Cargo()
    yield cargo
    for root, _ in list(cargo._open):
        cargo.forget(JobFolder(root))


def refer_to(folder: JobFolder, place: Path) -> Callable[[int, int, int], dict[str, Any]]:
    """Leave a Segment somewhere, and refer to it."""
    items = find_items(folder, 0)
    with open_items(items) as opened:
        place.write_bytes(opened.read(0, items.size))

    def refer(segment: int, begin: int, end: int) -> dict[str, Any]:
        assert segment == 0
        pieces = [(str(place), begin, end - begin)]
        return {"kind": "stored", "pieces": pieces, "bytes": end - begin, "lines": items.are_lines}

    return refer


def test_the_worker_reads_what_it_would_read_here(folder: JobFolder, cargo: Cargo, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    mirror = Mirror(tmp_path / "mirror", WORKER)
    mirror.take_piece(b"of a lease that did not come in whole")
    mirror.tell_again()

    referring = cargo.refer(folder, LEASE, refer_to(folder, tmp_path / "stored"))
    assert referring is not None
    told, data = referring
    assert data is not None
    assert told["index"] == len(data)
    numbers = array("I", data)
    items = StoredPayloads().read(told["payload"], numbers[:7], numbers[7:])
    here, there = LeasedSegment(folder, 0, 100), None
    lease = mirror.begin(told, data, items)
    there = LeasedSegment(mirror.folder, lease["segment"], lease["segment_first"])

    expected = list(here.batches(107, 113))
    assert expected == list(there.batches(107, 113))
    assert all(payload for _, payload in expected)


def test_a_lease_that_is_not_referred_carries_its_payload(folder: JobFolder, cargo: Cargo) -> None:
    assert cargo.refer(folder, LEASE, lambda *_: None) is None

    inline = cargo.pack(folder, LEASE)

    assert "inline" == inline[0][0]["payload"]["kind"]
    assert inline == pack_apart(folder, LEASE)


def test_a_lease_of_a_damaged_index_carries_what_can_be_read(folder: JobFolder, cargo: Cargo, tmp_path: Path) -> None:
    refer = refer_to(folder, tmp_path / "stored")
    offsets = bytearray(folder.offsets(0).read_bytes())
    offsets[4 * 7 : 4 * 8] = b"\xff\xff\xff\x7f"
    folder.offsets(0).write_bytes(offsets)

    assert cargo.refer(folder, LEASE, refer) is None

    ((told, _),) = cargo.pack(folder, LEASE)

    assert "inline" == told["payload"]["kind"]
