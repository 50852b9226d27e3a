import asyncio
import fcntl
import gzip
import json
import math
import os
import socket
import subprocess
import sys
from contextlib import aclosing
from dataclasses import asdict

import psutil
import pytest

from cortex.child_process.children import Children
from cortex.domain.errors import CortexError, InvalidSubmission
from cortex.domain.layout import JobFolder
from cortex.domain.source import FileSource, SourceKind
from cortex.enqueuing import process
from cortex.enqueuing.events import (
    STREAMED_SEGMENT_BYTES,
    Enqueued,
    EnqueuingFailed,
    FileBegun,
    Progress,
    Restarted,
    Resume,
    SegmentCut,
)
from cortex.enqueuing.process import Enqueuers
from processes import children_named
from waiting import wait_until

LISTER, DELIMITED = SourceKind


@pytest.fixture(params=["forked"])
def enqueuers(tmp_path, request):
    children = Children(_fresh_until={"forked": 0.0, "fresh": math.inf}[request.param])
    yield Enqueuers(children=children, log=tmp_path / "log", segment_bytes=256 * 1024, in_place_from_bytes=sys.maxsize)
    assert [] == processes()


forked_or_fresh = pytest.mark.parametrize("enqueuers", ["forked", "fresh"], indirect=True)
"""Children are forked where that is possible, and are fresh processes elsewhere."""


def run(enqueuers, doing):
    """Do something with them, to the end."""

    async def to_the_end():
        try:
            return await doing
        finally:
            await enqueuers.children.close()

    return asyncio.run(to_the_end())


def processes() -> list[psutil.Process]:
    """Give the enqueuing processes of this one; what other tests keep running does not count."""
    return children_named("cortex-enqueue")


@pytest.fixture
def source(tmp_path) -> FileSource:
    """Files that take a second to cut: whoever hears of the first Segment is in time to do something."""
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        lines = (f'{{"{name}": {number}, "padding": "{"x" * 100}"}}\n' for number in range(150_000))
        (tmp_path / "data" / name).write_text("".join(lines))
    return FileSource(kind=DELIMITED, paths=(f"{tmp_path}/data/",), batch_size=100)


def lister(*paths, **others) -> FileSource:
    return FileSource(kind=LISTER, paths=tuple(map(str, paths)), batch_size=100, **others)


def told_by(enqueuers: Enqueuers, source: FileSource, folder: JobFolder, *, react=lambda event: None, resume=None):
    async def follow():
        told = []
        async with aclosing(enqueuers.enqueue(source, folder, resume=resume)) as happenings:
            async for happening in happenings:
                if not isinstance(happening, Progress):
                    told.append(happening)
                    react(happening)
        return told

    return run(enqueuers, follow())


def kill_the_child() -> None:
    (child,) = processes()
    child.kill()


def files_of(folder: JobFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.segments.iterdir()}


def refusal_of(enqueuers: Enqueuers, source: FileSource, **options) -> InvalidSubmission:
    with pytest.raises(InvalidSubmission) as refused:
        run(enqueuers, enqueuers.check(source, **options))
    return refused.value


@forked_or_fresh
def test_an_enqueuer_that_is_killed_goes_on_and_gives_what_one_gives_that_is_not(tmp_path, enqueuers, source):
    whole, killed = JobFolder(tmp_path / "whole"), JobFolder(tmp_path / "killed")
    next_victim, kills, is_dying = 0, 0, False

    def kill_at_some_segments(event):
        nonlocal next_victim, kills, is_dying
        if isinstance(event, Restarted):
            is_dying = False
        elif isinstance(event, SegmentCut) and not is_dying and kills < 4 and event.segment.number >= next_victim:
            next_victim, kills, is_dying = event.segment.number + 7, kills + 1, True  # more of it may be on its way
            kill_the_child()

    expected = told_by(enqueuers, source, whole)
    told = told_by(enqueuers, source, killed, react=kill_at_some_segments)

    restarts = [event for event in told if isinstance(event, Restarted)]
    assert [Restarted(how="was killed by signal 9 (SIGKILL)")] * 4 == restarts
    assert expected == [event for event in told if not isinstance(event, Restarted)]
    assert Enqueued(files=2) == told[-1]
    assert files_of(whole) == files_of(killed)
    first = json.loads(whole.payload(0).read_bytes().partition(b"]")[0] + b"]")
    assert [{"a": number, "padding": "x" * 100} for number in range(100)] == first


@pytest.mark.parametrize(("is_compressed", "kind"), [(False, "source"), (True, "lines")])
def test_an_enqueuer_that_is_killed_while_its_forks_check_lines_goes_on(
    tmp_path, enqueuers, source, is_compressed, kind
):
    for path in (tmp_path / "data").iterdir() if is_compressed else ():
        path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    whole, killed = JobFolder(tmp_path / "whole"), JobFolder(tmp_path / "killed")
    enqueuers.in_place_from_bytes, enqueuers.segment_bytes = 0, 64 * 1024  # hundreds of segments
    is_to_die, kills = True, 0

    def kill_at_the_first_segment(event):
        nonlocal is_to_die, kills
        if isinstance(event, SegmentCut) and is_to_die:
            is_to_die, kills = False, kills + 1
            kill_the_child()
        elif isinstance(event, Restarted):
            is_to_die = kills < 3

    expected = told_by(enqueuers, source, whole)
    told = told_by(enqueuers, source, killed, react=kill_at_the_first_segment)

    restarts = [event for event in told if isinstance(event, Restarted)]
    assert [Restarted(how="was killed by signal 9 (SIGKILL)")] * 3 == restarts
    assert expected == [event for event in told if not isinstance(event, Restarted)]
    assert files_of(whole) == files_of(killed)
    assert {kind, "offsets", "states"} == {path.suffix[1:] for path in whole.segments.iterdir()}
    assert 300_000 == sum(event.items for event in told if isinstance(event, SegmentCut))


def test_a_file_is_told_once_although_its_enqueuer_is_killed_before_the_first_segment(tmp_path, enqueuers, source):
    def kill_at_the_second_file(event):
        if event == FileBegun(url=f"{tmp_path}/data/b", number=1):
            kill_the_child()

    enqueuers.segment_bytes = STREAMED_SEGMENT_BYTES
    told = told_by(enqueuers, source, JobFolder(tmp_path / "job"), react=kill_at_the_second_file)

    first, second, restarted, cut, end = told
    assert [FileBegun(url=f"{tmp_path}/data/a", number=0), FileBegun(url=f"{tmp_path}/data/b", number=1)] == [
        first,
        second,
    ]
    assert Restarted(how="was killed by signal 9 (SIGKILL)") == restarted
    assert (300_000, Enqueued(files=2)) == (cut.items, end)


def test_another_operator_goes_on_after_the_last_segment(tmp_path, enqueuers, source):
    whole, closed = JobFolder(tmp_path / "whole"), JobFolder(tmp_path / "closed")
    expected = told_by(enqueuers, source, whole)

    async def begin() -> SegmentCut:
        async with aclosing(enqueuers.enqueue(source, closed)) as happenings:
            async for happening in happenings:
                if isinstance(happening, SegmentCut):
                    return happening
        raise AssertionError("no segment was told")

    first = run(enqueuers, begin())
    told = told_by(enqueuers, source, closed, resume=first.resume)

    assert expected == [FileBegun(url=f"{tmp_path}/data/a", number=0), first, *told]
    assert files_of(whole) == files_of(closed)


def test_a_process_that_keeps_dying_is_given_up(tmp_path, enqueuers, source, monkeypatch):
    monkeypatch.setattr(sys, "executable", script(tmp_path, "kill -9 $$"))

    told = told_by(enqueuers, source, JobFolder(tmp_path / "job"))

    *restarts, end = told
    assert [Restarted(how="was killed by signal 9 (SIGKILL)")] * 3 == restarts
    assert isinstance(end, EnqueuingFailed)
    assert end.reason.startswith("the enqueuing process was killed by signal 9 (SIGKILL), 4 times at the same place")


def test_a_check_whose_process_dies_is_no_fault_of_the_submission(tmp_path, enqueuers, monkeypatch):
    monkeypatch.setattr(sys, "executable", script(tmp_path, "exit 3"))

    with pytest.raises(CortexError, match="exited with code 3") as failed:
        run(enqueuers, enqueuers.check(lister(tmp_path)))

    assert not isinstance(failed.value, InvalidSubmission)


def script(folder, command: str) -> str:
    path = folder / "stub"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o700)
    return str(path)


@forked_or_fresh
def test_closing_kills_the_process_at_once(tmp_path, enqueuers, source):
    async def begin_and_close() -> psutil.Process:
        async with aclosing(enqueuers.enqueue(source, JobFolder(tmp_path / "job"))) as happenings:
            assert FileBegun(url=f"{tmp_path}/data/a", number=0) == await anext(happenings)
            (child,) = processes()
        assert not child.is_running()
        return child

    run(enqueuers, begin_and_close())


@forked_or_fresh
def test_a_cancelled_check_leaves_no_process(enqueuers, silent_s3):
    async def begin_and_cancel() -> None:
        check = asyncio.create_task(enqueuers.check(lister("s3://bucket/")))
        connection, _ = await asyncio.get_running_loop().sock_accept(silent_s3)
        with connection:  # so it waits for the answer
            assert 1 == len(processes())
            check.cancel()
            with pytest.raises(asyncio.CancelledError):
                await check
        assert [] == processes()

    run(enqueuers, begin_and_cancel())


@pytest.fixture
def silent_s3(monkeypatch):
    """An S3 that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        yield silent


def test_the_process_dies_with_the_operator(tmp_path):
    lock = lock_folder(tmp_path / "job")  # it would wait for this
    program = """if True:
        import asyncio, msgspec, sys
        from pathlib import Path
        from cortex.child_process.children import Children
        from cortex.domain.layout import JobFolder
        from cortex.domain.source import FileSource
        from cortex.enqueuing.process import Enqueuers

        async def main():
            enqueuers = Enqueuers(children=Children(), log=Path(sys.argv[2]))
            source = msgspec.json.decode(sys.argv[1], type=FileSource)
            await anext(enqueuers.enqueue(source, JobFolder(Path(sys.argv[3]))))

        asyncio.run(main())
    """
    (tmp_path / "a").touch()
    arguments = [json.dumps(asdict(lister(tmp_path / "a"))), str(tmp_path / "log"), str(tmp_path / "job")]

    with subprocess.Popen([sys.executable, "-c", program, *arguments]) as operator:
        try:
            wait_until(lambda: children_named("cortex-enqueue", operator.pid), "it was forked")
            children = [
                child for name in ("cortex-forks", "cortex-enqueue") for child in children_named(name, operator.pid)
            ]
        finally:
            operator.kill()

    assert 2 == len(children)  # the one that forks, and the one that was forked
    for child in children:
        child.wait(timeout=30)
    os.close(lock)


def test_nothing_is_done_for_a_parent_that_is_gone_already(tmp_path):
    request = {"source": asdict(lister(tmp_path)), "allowed": None}

    ended = subprocess.run(
        [sys.executable, "-m", "cortex.enqueuing", "check", "1"],
        input=json.dumps(request).encode(),
        capture_output=True,
    )

    assert (1, b"", b"") == (ended.returncode, ended.stdout, ended.stderr)


def test_so_many_enqueue_at_a_time_and_checks_do_not_wait_for_them(tmp_path, enqueuers, monkeypatch):
    monkeypatch.setattr(process, "MOST_AT_ONCE", 2)
    enqueuers = Enqueuers(children=Children(), log=tmp_path / "log")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"1")
    source = FileSource(kind=DELIMITED, paths=(f"{tmp_path}/data/",), batch_size=1)
    locks = [lock_folder(tmp_path / f"job-{number}") for number in range(4)]  # as if others were still at work there

    async def enqueue(number: int) -> object:
        return [event async for event in enqueuers.enqueue(source, JobFolder(tmp_path / f"job-{number}"))][-1]

    async def follow() -> list[object]:
        jobs = [asyncio.create_task(enqueue(number)) for number in range(4)]
        await enqueuers.check(source)
        while len(processes()) < 2:  # they are named a moment after they are forked
            await asyncio.sleep(0.01)
        assert 2 == len(processes())
        for lock in locks:
            os.close(lock)
        return await asyncio.gather(*jobs)

    assert [Enqueued(files=1)] * 4 == run(enqueuers, follow())


def lock_folder(path) -> int:
    path.mkdir()
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_what_goes_wrong_in_the_process_is_told_and_its_traceback_is_kept(tmp_path, enqueuers, source):
    nonsense = Resume(number=0, first=0, cursor={"no": "cursor"})

    (failure,) = told_by(enqueuers, source, JobFolder(tmp_path / "job"), resume=nonsense)

    assert EnqueuingFailed(reason="KeyError: 'offset'") == failure
    assert "Traceback" in enqueuers.log.read_text()


def test_a_check_passes_where_there_is_a_file(tmp_path, enqueuers):
    (tmp_path / "a.jpg").touch()

    run(enqueuers, enqueuers.check(lister(tmp_path / "nothing", tmp_path / "a", includes=("**.jpg",))))


def test_paths_without_files_are_refused_by_their_field(tmp_path, enqueuers):
    (tmp_path / "folder").mkdir()

    refusal = refusal_of(enqueuers, lister(tmp_path / "folder"))

    assert f"file_path_lister.s3_paths: there is no file whose URL begins with `{tmp_path}/folder`" == refusal.message
    assert refusal.hint


@pytest.mark.parametrize(
    ("field", "filters"),
    [
        ("includes", {"includes": ("*.jpg",)}),
        ("includes", {"includes": ("**.png", "**.PNG"), "excludes": ("**.jpg",)}),
        ("excludes", {"excludes": ("**",)}),
    ],
)
def test_globs_that_leave_nothing_are_refused_with_an_example(tmp_path, enqueuers, field, filters):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()

    refusal = refusal_of(enqueuers, lister(tmp_path / "a", tmp_path / "b", **filters))

    assert f"file_path_lister.{field}: of 2 files none is left, for example not `{tmp_path}/a.jpg`" == refusal.message
    assert "`**.jpg`" in refusal.hint


def test_a_bucket_that_is_not_there_is_refused_by_its_field(enqueuers, s3):
    refusal = refusal_of(enqueuers, lister("s3://there-is-no-such-bucket/a"))

    assert refusal.message.startswith("file_path_lister.s3_paths: there is no bucket `there-is-no-such-bucket`")
    assert refusal.hint


def test_files_in_s3_are_cut_across_objects(tmp_path, enqueuers, s3):
    s3.put("data/a.json", body=b"1\n2\n3")
    s3.put("data/b.json.gz", body=gzip.compress(b"4\r\n5\n"))
    source = FileSource(kind=DELIMITED, paths=(s3.url("data/"),), includes=("**.json", "**.gz"), batch_size=2)
    folder = JobFolder(tmp_path / "job")

    told = told_by(enqueuers, source, folder)

    first, second = s3.url("data/a.json"), s3.url("data/b.json.gz")
    assert [FileBegun(url=first, number=0), FileBegun(url=second, number=1)] == told[:2]
    assert Enqueued(files=2) == told[-1]
    assert b"[1,2][3,4][5]" == folder.payload(0).read_bytes()


def test_what_s3_needs_leaves_a_process_that_can_fork(enqueuers, s3, caplog):
    s3.put("a", body=b"1")

    async def check_twice() -> int:
        for _ in range(2):
            await enqueuers.check(lister(s3.url("a")))
        (server,) = children_named("cortex-forks")
        return server.num_threads()

    assert 1 == run(enqueuers, check_twice())
    assert [] == caplog.records


def test_files_outside_the_allowed_folders_are_refused(tmp_path, enqueuers):
    (tmp_path / "secret").touch()
    (tmp_path / "allowed").mkdir()

    refusal = refusal_of(enqueuers, lister(tmp_path / "secret"), allowed=[tmp_path / "allowed"])

    assert refusal.message.startswith("file_path_lister.s3_paths: ")


def test_a_listing_gives_every_file_once_in_order(tmp_path, enqueuers):
    names = [f"{number:04}-é\n" for number in range(2300)]
    data = tmp_path / "data"
    data.mkdir()
    for name in names:
        (data / name).write_bytes(b"12")
    source = lister(data / "1", f"{data}/", data / "2")

    async def listing() -> list:
        return [listed async for listed in enqueuers.listing(source)]

    groups = run(enqueuers, listing())

    assert [1000, 1000] == [len(group.urls) for group in groups[:2]]
    expected = [*names[1000:2000], *names[:1000], *names[2000:]]
    assert [f"{data}/{name}" for name in expected] == [url for group in groups for url in group.urls]
    assert [2] * 2300 == [size for group in groups for size in group.sizes]


def test_nobody_waits_for_a_storage_of_others_that_does_not_answer(tmp_path, enqueuers, silent_s3):
    (tmp_path / "file").write_bytes(b"1")

    async def check_all(silent: socket.socket) -> None:
        checks = [asyncio.create_task(enqueuers.check(lister("s3://bucket/"))) for _ in range(4)]
        connection, _ = await asyncio.get_running_loop().sock_accept(silent)

        with connection:  # so at least one of them waits for its answer
            await enqueuers.check(lister(tmp_path / "file"))

        assert [False] * 4 == [check.done() for check in checks]
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    run(enqueuers, check_all(silent_s3))
