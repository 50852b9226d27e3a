"""A Lease refers to what is in the storage, and to nothing else; what is there goes with its Job."""

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from cortex.depositing.events import Done, Event, Failed, Missing, Stored
from cortex.depositing.places import PIECE_BYTES
from cortex.domain.layout import JobFolder
from cortex.operator.stations.objects import INLINE_BYTES, Objects, Shared
from cortex.storage.segments import SegmentWriter
from cortex.worker.source import SourceFile

JOB = "job"
WORKER = "job-1"
BATCH = b"[" + b"1," * 127_998 + b"11]"  # 256,000 bytes
HALF = b"[" + b"1," * 63_998 + b"1]"


class Storage:
    """A storage that takes what it is given, unless a test says otherwise."""

    root = "s3://bucket/cortex-1"

    def __init__(self) -> None:
        self.uploads: list[list[tuple[int, int]]] = []
        self.failures: list[Event] = []  # the next words instead
        self.found: list[str] = []
        self.removed: list[str] = []
        self.is_hanging = False
        self.has_removed = asyncio.Event()

    async def upload(
        self, job_id: str, folder: JobFolder, pieces: Sequence[tuple[int, int]]
    ) -> AsyncGenerator[Event, None]:
        self.uploads.append(list(pieces))
        if self.is_hanging:
            await asyncio.Event().wait()
        if self.failures:
            yield self.failures.pop(0)
            return
        for segment, number in pieces:
            yield Stored(segment=segment, number=number)
        yield Done()

    async def find(self) -> list[str]:
        return self.found

    async def remove(self, jobs: Sequence[str]) -> Event:
        self.removed += jobs
        self.has_removed.set()
        return Done()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Stage:
    """A Job with one Segment of so many Batches of 256,000 bytes."""

    def __init__(self, root: Path, batches: int = 40) -> None:
        self.folder = JobFolder(root / JOB)
        with SegmentWriter(self.folder) as writer:
            writer.extend([BATCH] * batches)
            writer.complete()
        self.storage = Storage()
        self.clock = Clock()
        self.objects = Objects(
            depositing=self.storage,
            shared=None,
            is_in_progress=lambda job: job == JOB,
            monotonic=self.clock,
            retry_seconds=0.001,
        )

    def reference(self, first: int, end: int, worker: str = WORKER) -> dict[str, Any] | None:
        return self.objects.reference(worker, JOB, 0, first * len(BATCH), end * len(BATCH))

    @property
    def log(self) -> list[str]:
        return self.folder.log.read_text().splitlines() if self.folder.log.exists() else []


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Play a story with a stage, in an event loop."""

    def play(story: Callable[[Stage], Coroutine[Any, Any, None]], **facts: int) -> None:
        async def whole() -> None:
            stage = Stage(tmp_path, **facts)
            await story(stage)
            await stage.objects.close()

        asyncio.run(whole())

    return play


async def uploaded(stage: Stage) -> None:
    """Wait until nothing more is brought."""
    job = stage.objects._jobs[JOB]
    assert job.task is not None
    await asyncio.wait([job.task])


def test_a_large_lease_refers_to_pieces_that_are_there(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)

        beyond = 33 * len(BATCH) - PIECE_BYTES  # Batch 32 lies in both pieces
        base = f"s3://bucket/cortex-1/{JOB}/segments/000000"
        assert {
            "kind": "stored",
            "pieces": [(f"{base}/00000", 31 * len(BATCH), 2 * len(BATCH) - beyond), (f"{base}/00001", 0, beyond)],
            "bytes": 2 * len(BATCH),
            "lines": False,
        } == stage.reference(31, 33)
        assert [[(0, 0), (0, 1)]] == stage.storage.uploads

    play(story)


def test_a_small_lease_carries_its_payload(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)

        assert stage.objects.reference(WORKER, JOB, 0, 0, INLINE_BYTES) is None
        assert stage.objects.reference(WORKER, JOB, 0, 0, INLINE_BYTES + 1) is not None

    play(story)


def test_a_lease_carries_what_is_not_there_yet(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.is_hanging = True
        unknown = stage.reference(0, 10)
        stage.objects.begin(JOB, stage.folder)
        await asyncio.sleep(0)

        assert (None, None) == (unknown, stage.reference(0, 10))

    play(story)


def test_nothing_is_brought_for_a_job_that_is_small(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)

        assert [] == stage.storage.uploads

    play(story, batches=1)


def test_a_storage_that_fails_is_tried_again_and_the_log_says_so_once(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.failures = [Failed(reason="access is denied"), Failed(reason="access is still denied")]
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)

        said = "the storage (--storage) cannot be used, the operator's channel is instead: access is denied"
        assert [said] == stage.log
        assert stage.reference(0, 10) is not None

    play(story)


def test_items_that_are_not_what_they_were_are_left_to_the_lease(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.failures = [Missing(segment=0, reason="it has changed")]
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)

        assert ([[(0, 0), (0, 1)]], []) == (stage.storage.uploads, stage.log)
        assert stage.reference(0, 10) is None

    play(story)


def test_what_workers_have_passed_is_not_brought_any_more(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.failures = [Failed(reason="not now")]
        stage.objects.begin(JOB, stage.folder)
        assert stage.reference(100, 110) is None  # in the fourth piece
        await uploaded(stage)

        assert [[(0, 3)]] == stage.storage.uploads[1:]

    play(story, batches=120)


def test_who_could_not_read_it_is_not_referred_to_it_for_a_while(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.objects.begin(JOB, stage.folder)
        await uploaded(stage)
        stage.objects.unfetched(WORKER, JOB, "it does not answer")
        soon, of_another = stage.reference(0, 10), stage.reference(0, 10, worker="job-2")
        stage.clock.now = 31
        later = stage.reference(0, 10)
        stage.objects.unfetched(WORKER, JOB, "it still does not answer")
        stage.clock.now = 62
        not_yet = stage.reference(0, 10)
        stage.clock.now = 92

        assert (True, False) == (soon is None, of_another is None)
        assert (False, True, False) == (later is None, not_yet is None, stage.reference(0, 10) is None)
        assert 1 == len(stage.log)

    play(story)


def test_what_lies_there_of_a_job_is_removed_at_its_end(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.is_hanging = True  # what is being brought is given up before
        stage.objects.begin(JOB, stage.folder)
        await asyncio.sleep(0)
        stage.objects.job_ended(JOB)
        await stage.storage.has_removed.wait()

        assert [JOB] == stage.storage.removed
        assert stage.reference(0, 10) is None

    play(story)


def test_a_new_operator_removes_what_jobs_have_left_that_are_over(play: Callable[..., None]) -> None:
    async def story(stage: Stage) -> None:
        stage.storage.found = ["older", JOB, "oldest"]
        stage.objects.recover()
        await stage.storage.has_removed.wait()

        before = list(stage.storage.removed)
        stage.storage.has_removed.clear()
        stage.objects.job_ended(JOB)
        await stage.storage.has_removed.wait()

        assert ["older", "oldest"] == before
        assert ["older", "oldest", JOB] == stage.storage.removed

    play(story)


def test_in_a_shared_folder_a_lease_refers_to_the_operators_own_files(tmp_path: Path) -> None:
    async def story() -> None:
        elsewhere = tmp_path / "mnt"
        (tmp_path / "export" / "data").mkdir(parents=True)
        elsewhere.symlink_to(tmp_path / "export")
        stage = Stage(tmp_path / "export" / "data")
        stage.objects.shared = Shared.find(tmp_path / "export" / "data", str(elsewhere))
        stage.objects.begin(JOB, stage.folder)

        url = f"file://{elsewhere}/data/{JOB}/segments/000000.payload"
        payload = {"kind": "stored", "pieces": [(url, len(BATCH), 2 * len(BATCH))], "lines": False}
        assert {**payload, "bytes": 2 * len(BATCH)} == stage.reference(1, 3)
        assert [] == stage.storage.uploads

    asyncio.run(story())


def test_in_a_shared_folder_a_lease_refers_to_the_users_file(tmp_path: Path) -> None:
    async def story() -> None:
        stage = Stage(tmp_path / "data")
        users = tmp_path / "a line é.jsonl"
        lines = HALF[:-1] + b"]\n"
        users.write_bytes(b"0\n" + lines * 6)
        facts = users.stat()
        source = SourceFile(path=str(users), size=facts.st_size, mtime_ns=facts.st_mtime_ns, inode=facts.st_ino, base=2)
        with SegmentWriter(stage.folder, number=1, first=40) as writer:
            writer.refer(source, array("I", range(0, 7 * len(lines), len(lines))).tobytes())
        stage.objects.shared = Shared.find(tmp_path / "data", str(tmp_path))
        stage.objects.begin(JOB, stage.folder)

        assert {
            "kind": "stored",
            "pieces": [(f"file://{tmp_path}/a%20line%20%C3%A9.jsonl", 2 + len(lines), 3 * len(lines))],
            "bytes": 3 * len(lines),
            "lines": True,
            "facts": [facts.st_size, facts.st_mtime_ns, facts.st_ino],
        } == stage.objects.reference(WORKER, JOB, 1, len(lines), 4 * len(lines))

    asyncio.run(story())


def test_a_data_directory_elsewhere_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "data").mkdir()

    assert Shared.find(tmp_path / "data", str(tmp_path / "shared")) is None
    assert Shared.find(tmp_path / "data", "s3://bucket") is None
