"""The door that stations come in by, over real connections: who is let in, who is heard, and what they are sent."""

import asyncio
import errno
import io
import json
import os
import stat
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cortex.domain.batch import HookState, Page
from cortex.domain.frame import Frame, encode
from cortex.domain.layout import JobFolder
from cortex.domain.ticket import sign
from cortex.engines.model_looks import model_bundles, model_paths
from cortex.operator.stations import bundles as bundles_module
from cortex.operator.stations import door as door_module
from cortex.operator.stations.bundles import Bundles
from cortex.operator.stations.intake import Intake
from cortex.operator.stations.secret import channel_secret
from cortex.storage.pages import create_page, read_page, write_lease
from job_files import make_job
from scripted_station import SECRET, WORKER, Heard, ScriptedStation, opened, ticket_of

Door = tuple[str, int]
Story = Callable[[Heard, Door, JobFolder], Awaitable[None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], list[Any]]:
    """Tell a story at a door; give what the operator has heard."""
    folder, _ = make_job(tmp_path / "jobs" / "67160ace060e3bfa", 10)
    create_page(folder, WORKER)

    def tell_it(story: Story) -> list[Any]:
        async def run() -> list[Any]:
            heard = Heard()
            async with opened(tmp_path, heard) as door:
                await story(heard, door, folder)
            return heard.events

        return asyncio.run(run())

    return tell_it


Tell = Callable[[Story], list[Any]]


READ: Frame = {"type": "read", "id": 1, "bundle": "project/p1", "offset": 0}
LEASE_ENDED: Frame = {"peer": "worker", "type": "lease_ended", "token": 1, "finished": 1, "seconds": 0.1}


def page_with(**words: int) -> bytes:
    """Give a page as a Worker has written it."""
    page = bytearray(Page.SIZE)
    for name, value in words.items():
        memoryview(page).cast("Q")[getattr(Page, name)] = value
    return bytes(page)


def test_a_worker_and_its_supervisor_are_heard_through_their_station_and_known_to_be_gone(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("supervisor")
        station.introduce("worker")
        station.say(LEASE_ENDED)
        station.say({"peer": "supervisor", "type": "beat", "pid": 1})
        station.say({"peer": "worker", "type": "closed"})
        station.say(LEASE_ENDED)  # by nobody
        await heard.until("worker gone", WORKER)
        station.leave()
        await heard.until("supervisor gone")

    assert tell(story) == [
        ("station", WORKER),
        ("supervisor", WORKER),
        ("worker", WORKER),
        ("worker says", WORKER, "lease_ended"),
        ("supervisor says", WORKER, "beat"),
        ("worker gone", WORKER),
        ("station gone", WORKER),
        ("supervisor gone",),
    ]


def test_what_they_are_told_passes_through_their_station_with_its_data(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("supervisor")
        station.introduce("worker")
        await heard.until("worker", WORKER)
        heard.workers[WORKER].send({"type": "request", "id": 1}, b"body")
        heard.supervisors[0].send({"type": "stop", "worker": WORKER})

        assert await station.hear("request") == {"peer": "worker", "type": "request", "id": 1, "data": b"body"}
        assert await station.hear("stop") == {"peer": "supervisor", "type": "stop", "worker": WORKER}
        assert heard.supervisors[0].elsewhere is None

    tell(story)


def test_only_the_ticket_says_of_which_worker_a_station_is(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("supervisor", worker="another")
        station.introduce("worker", worker="another")
        station.say({"peer": "supervisor", "type": "exited", "worker": "another", "exit_status": 0})
        await heard.until("supervisor says", WORKER, "exited")

    assert "another" not in str(tell(story))


@pytest.mark.parametrize(
    "told",
    [
        {"signature": ""},
        {"signature": sign("another secret", "{}")},
        {"signature": "\ud800"},
        {"signature": None},
        {"ticket": "{}"},
        {"ticket": None},
        {"ticket": "{}", "signature": sign(SECRET, "{}")},
        {"type": "beat"},
        {"peer": "worker", "type": "hello", "ticket": None},
    ],
    ids=str,
)
def test_who_has_no_ticket_that_was_signed_here_is_cut_off_and_nobody_hears_of_it(tell: Tell, told: Frame) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder), **told)
        station.introduce("worker")
        assert await station.is_cut_off()

    assert tell(story) == []


@pytest.mark.parametrize("limit", ["_HELLO_SECONDS", "_HELLO_BYTES"])
def test_who_does_not_introduce_itself_is_cut_off(tell: Tell, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, limit, 0)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.knock(door)
        station.say_bytes(b"\xff\0\0\0" if limit == "_HELLO_BYTES" else b"")
        assert await station.is_cut_off()

    assert tell(story) == []


WRITTEN: Frame = {"type": "written", "token": 1, "first": 0, "index_at": 0, "states": 2}


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        encode({"type": "hello"}),
        encode({"type": "page", "now_ns": 1}, b"short"),
        encode({"type": "rows", "offset": -1}, b"[]"),
        encode({"type": "rows", "offset": "a"}, b"[]"),
        encode(WRITTEN, b"\0"),
        encode(WRITTEN, b"\0\x09"),
        encode(WRITTEN, b"\0\0."),
        encode({**WRITTEN, "index_at": -40}, b"\0\0"),
        encode({**WRITTEN, "states": 2.0}, b"\0\0"),
        encode(WRITTEN),
        encode({"type": "read", "id": 1, "bundle": "project/a", "offset": -1}),
    ],
    ids=range(12),
)
def test_a_station_that_does_not_keep_to_the_protocol_is_cut_off_and_gone(tell: Tell, words: bytes) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        await heard.until("station", WORKER)
        station.say_bytes(words)
        assert await station.is_cut_off()

    assert tell(story) == [("station", WORKER), ("station gone", WORKER)]


@pytest.mark.parametrize(
    "asks",
    [LEASE_ENDED, {"peer": "worker", "type": "hello", "phase": "ready", "has_hook": False}, READ],
    ids=lambda asks: str(asks["type"]),
)
def test_who_does_not_read_what_it_is_sent_gets_no_more(
    tell: Tell, asks: Frame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_MOST_UNREAD_BYTES", 16 * 1024 * 1024)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("worker")
        await heard.until("worker", WORKER)
        for _ in range(4):
            heard.workers[WORKER].send({"type": "request"}, bytes(15 * 1024 * 1024))
        station.say(asks)
        await heard.until("worker gone", WORKER)

    assert tell(story) == [("station", WORKER), ("worker", WORKER), ("station gone", WORKER), ("worker gone", WORKER)]


PLACE = {"millicores": 0, "mem_bytes": 0, "gpus": 0}
CHILD = {"worker": WORKER, "pid": 1, "exit_status": None, "place": PLACE}


@pytest.mark.parametrize(
    ("peer", "said"),
    [
        ("worker", {"type": "written", **WRITTEN}),
        ("worker", {"type": "lease_ended", "token": 1}),
        ("worker", {**LEASE_ENDED, "finished": -1}),
        ("worker", {**LEASE_ENDED, "finished": 2**63}),
        ("worker", {**LEASE_ENDED, "seconds": float("nan")}),
        ("worker", {**LEASE_ENDED, "failed": "one"}),
        ("worker", {"type": "hook_ended"}),
        ("worker", {"type": "hook_ended", "error": 1}),
        ("worker", {"type": "ready"}),
        ("worker", {"type": "init_failed", "error": None}),
        ("worker", {"type": "hello"}),
        ("worker", {"type": "hello", "phase": []}),
        ("worker", {"type": "hello", "phase": "ready"}),
        ("worker", {"type": "hello", "phase": "failed"}),
        ("supervisor", {"type": "hello", "supervisor": 1, "workers": []}),
        ("supervisor", {"type": "hello", "supervisor": "s", "workers": [{**CHILD, "pid": "1"}]}),
        ("supervisor", {"type": "hello", "supervisor": "s", "workers": [{**CHILD, "place": {}}]}),
        ("supervisor", {"type": "started", "pid": {}}),
        ("supervisor", {"type": "started", "pid": 2**64}),
        ("supervisor", {"type": "exited"}),
        ("supervisor", {"type": "exited", "exit_status": None}),
        ("supervisor", {"type": "exited", "exit_status": 0, "error": {}}),
    ],
    ids=range(22),
)
def test_what_nobody_could_ever_handle_is_not_brought_on(tell: Tell, peer: str, said: Frame) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        await heard.until("station", WORKER)
        station.introduce(peer)
        await heard.until(peer, WORKER)
        station.say({"peer": peer, **said}, b"\0\0" if said["type"] == "written" else None)
        assert await station.is_cut_off()

    assert [event[0] for event in tell(story) if "says" in event[0]] == []


def test_reasons_can_be_written_to_any_file(tell: Tell) -> None:
    told: list[Any] = []

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        heard.supervisor_says = told.append  # type: ignore[method-assign]
        heard.supervisor_connected = lambda _, hello: told.append(hello["workers"][0])  # type: ignore[method-assign]
        error = "\udcff" + "a" * 100_000
        child = {**CHILD, "error": error}
        station.say({"peer": "supervisor", "type": "hello", "supervisor": "s", "pid": 1, "workers": [child]})
        station.say({"peer": "supervisor", "type": "exited", "exit_status": 1, "error": error})
        station.say({"type": "failed", "error": error})
        station.say({"type": "beat", "n": 1})
        await station.hear("beat")
        told.extend({"error": event[2]} for event in heard.events if event[0] == "failed")

    tell(story)
    assert ["?" + "a" * 9_999] * 3 == [each["error"] for each in told]


def test_a_station_of_another_version_is_told_why_it_is_not_wanted_and_so_is_its_engine(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder), version="0.0.1")
        station.introduce("worker")
        assert "n1 has cortex 0.0.1" in (await station.hear("end"))["why"]
        station.leave()

    ((what, worker, error),) = tell(story)
    assert (what, worker) == ("failed", WORKER)
    assert error.endswith("install the same version on both")


def test_a_station_that_comes_again_is_gone_before_it_is_there(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        first = await ScriptedStation.enter(door, ticket_of(folder))
        first.introduce("worker")
        await heard.until("worker", WORKER)
        second = await ScriptedStation.enter(door, ticket_of(folder))
        assert await first.is_cut_off()
        second.introduce("worker")
        second.say({"type": "failed", "error": "no uv"})
        await heard.until("failed", WORKER, "no uv")

    connected = [("station", WORKER), ("worker", WORKER)]
    told = [*connected, ("station gone", WORKER), ("worker gone", WORKER), *connected, ("failed", WORKER, "no uv")]
    assert tell(story)[: len(told)] == told


def test_a_station_that_comes_again_before_its_connection_is_known_to_be_dead_repeats_nothing(tell: Tell) -> None:
    page = page_with(CURRENT=1, STARTED_AT_NS=4)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        started = []
        for now_ns in (10, 17):  # it takes longer on its way
            station = await ScriptedStation.enter(door, ticket_of(folder))
            station.say({"type": "log", "offset": 0}, b"one\n")
            station.say({"type": "page", "now_ns": now_ns}, page)
            station.say({"type": "beat", "n": 1})
            await station.hear("beat")
            started.append(read_page(folder, WORKER).started_at_ns)

        assert folder.log.read_text() == "one\n"
        assert started[0] == started[1]  # or what takes too long would be another call of predict

    tell(story)


def test_what_a_replica_that_is_lost_with_its_node_has_begun_is_not_known(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        begun = []
        for last_words in ([], [{"type": "closed", "peer": "worker"}]):
            station = await ScriptedStation.enter(door, ticket_of(folder, serves=True))
            station.say({"type": "page", "now_ns": 0}, page_with(CURRENT=6))
            station.introduce("worker")
            for words in last_words:
                station.say(words)
            station.say({"type": "beat", "n": 1})
            await station.hear("beat")
            station.leave()
            begun.append(read_page(folder, WORKER).current)

        assert begun == [None, 5]

    tell(story)


def test_another_station_is_never_taken_for_that_of_a_worker(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        first = await ScriptedStation.enter(door, ticket_of(folder))
        await heard.until("station", WORKER)
        another = await ScriptedStation.enter(door, ticket_of(folder), node="n2")
        another.say({"type": "rows", "offset": 0}, b"[]")
        await another.hear("end")
        first.say({"type": "beat", "n": 1})
        await heard.until("heard", WORKER)
        assert not folder.rows(WORKER).exists()

    assert tell(story)[:2] == [("station", WORKER), ("heard", WORKER)]


def test_whoever_was_told_to_end_is_not_heard_any_more(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("worker")
        await heard.until("worker", WORKER)
        heard.workers[WORKER].send({"type": "end"})  # that is for the Worker alone
        station.say({"type": "beat", "n": 1})
        await heard.until("heard", WORKER)
        heard.links[WORKER].send({"type": "end"})
        station.say({"type": "rows", "offset": 0}, b"[]")
        station.say(LEASE_ENDED)
        station.leave()
        await heard.until("station gone", WORKER)
        assert not folder.rows(WORKER).exists()

    assert ("worker says", WORKER, "lease_ended") not in tell(story)


def test_a_beat_is_heard_and_answered_as_it_was_said(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.say({"type": "beat", "n": 7})
        assert await station.hear("beat") == {"type": "beat", "n": 7}

    assert ("heard", WORKER) in tell(story)


def test_what_its_worker_has_written_is_heard_whether_or_not_the_worker_is_connected(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.say({"type": "rows", "offset": 2}, b"[]")
        station.say(WRITTEN, b"\1\0")
        await heard.until("worker says", WORKER, "written")
        assert folder.rows(WORKER).read_bytes() == b"\0\0[]"

    tell(story)


def test_a_worker_has_seen_its_limit_when_the_page_here_shows_what_it_has_begun(tell: Tell) -> None:
    seen: list[Any] = []

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("worker")
        await heard.until("worker", WORKER)
        elsewhere = heard.workers[WORKER].elsewhere
        assert elsewhere is not None
        elsewhere.settle(1, 4, lambda: seen.append(read_page(folder, WORKER).current))
        elsewhere.settle(1, 3, lambda: seen.append("never"))
        asked = await station.hear("limit")
        station.say({"type": "page", "now_ns": 0}, page_with(CURRENT=6))
        station.say({"type": "page_seen", "id": asked["id"]})
        station.say({"type": "page_seen", "id": asked["id"]})
        station.leave()
        await heard.until("worker gone", WORKER)
        assert (asked["token"], asked["limit"]) == (1, 4)

    tell(story)
    assert seen == [5]


def test_a_lease_goes_with_what_it_is_about(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("worker")
        await heard.until("worker", WORKER)
        lease = {"type": "lease", "token": 1, "segment": 0, "segment_first": 0, "first": 3, "end": 5}
        heard.workers[WORKER].send(lease)
        frame = await station.hear("lease")
        assert frame.pop("data").endswith(b"[3][4]")
        assert frame == {**lease, "peer": "worker", "index": 20, "payload": {"kind": "inline", "bytes": 6}}

    tell(story)


def test_that_the_hook_begins_is_on_the_page_before_it_is_said_and_no_older_page_takes_it_back(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("worker")
        await heard.until("worker", WORKER)
        heard.workers[WORKER].send({"type": "run_hook"})
        assert read_page(folder, WORKER).hook is HookState.STARTED
        await station.hear("run_hook")
        station.say({"type": "page", "now_ns": 0}, page_with(FINISHED=3))
        station.say({"type": "beat", "n": 1})
        await station.hear("beat")
        assert (read_page(folder, WORKER).finished, read_page(folder, WORKER).hook) == (3, HookState.STARTED)

    tell(story)


def test_a_page_is_marked_as_a_copy_as_soon_as_there_is_a_station(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        write_lease(folder, WORKER, token=9, first=1, limit=3)
        await ScriptedStation.enter(door, ticket_of(folder))
        await heard.until("station", WORKER)
        page = read_page(folder, WORKER)
        assert (page.is_copy, page.token, page.first, page.limit) == (True, 9, 1, 3)

    tell(story)


def test_what_a_full_disk_does_not_take_holds_up_what_comes_after_it_and_nobody_takes_that_for_silence(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_RETRY_SECONDS", 0.001)
    room = asyncio.Event()
    take_rows = Intake.take_rows

    def take_if_there_is_room(intake: Intake, rows: bytes, offset: int) -> None:
        if not room.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        take_rows(intake, rows, offset)

    monkeypatch.setattr(Intake, "take_rows", take_if_there_is_room)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("supervisor")
        station.say({"type": "rows", "offset": 0}, b"[]")
        station.say(WRITTEN, b"\1\0")
        await heard.until("heard", WORKER)
        await heard.until("supervisor says", WORKER, "beat")
        assert await station.hear("beat") == {"type": "beat", "n": 0}
        assert ("worker says", WORKER, "written") not in heard.events
        room.set()
        await heard.until("worker says", WORKER, "written")
        assert folder.rows(WORKER).read_bytes() == b"[]"
        station.say({"type": "beat", "n": 1})
        await heard.until("heard", WORKER)

    tell(story)


def test_who_brings_rows_is_not_silent_although_the_beats_come_behind_them(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.introduce("supervisor")
        station.say({"type": "rows", "offset": 0}, b"[]")
        await heard.until("supervisor says", WORKER, "beat")
        await heard.until("heard", WORKER)

    tell(story)


def test_no_more_is_kept_of_stations_that_are_gone_than_there_is_room_for(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_MOST_AWAY", 1)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        for worker in (WORKER, "another", WORKER):
            station = await ScriptedStation.enter(door, ticket_of(folder, worker))
            station.say({"type": "log", "offset": 0}, b"one\n")
            station.say({"type": "beat", "n": 1})
            await station.hear("beat")
            station.leave()
            await heard.until("station gone", worker)
            heard.events.clear()

        assert folder.log.read_text() == "one\n" * 3

    tell(story)


def test_the_files_of_a_job_that_was_removed_are_missed_by_nobody(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        gone = JobFolder(folder.root.with_name("gone"))
        station = await ScriptedStation.enter(door, ticket_of(gone))
        station.say({"type": "page", "now_ns": 0}, page_with(FINISHED=3))
        station.say({"type": "rows", "offset": 0}, b"[]")
        station.say({"type": "log", "offset": 0}, b"line\n")
        station.say({"type": "say", "text": "line"})
        station.say({"type": "beat", "n": 1})
        await station.hear("beat")
        assert not gone.root.exists()

    tell(story)


# Bundles


async def read_bundle(station: ScriptedStation, name: str) -> bytes:
    """Read a bundle to its end."""
    data, total = b"", 1
    while len(data) < total:
        station.say({"type": "read", "id": len(data), "bundle": name, "offset": len(data)})
        piece = await station.hear("piece")
        assert (piece["id"], piece["offset"], piece["error"]) == (len(data), len(data), None)
        total = piece["total"]
        data += piece["data"]
    return data


def content(bundle: bytes) -> dict[str, tuple[bytes | None, int]]:
    """Give what is in a bundle: content and mode, by name."""
    with tarfile.open(fileobj=io.BytesIO(bundle)) as archive:
        files = [(entry, archive.extractfile(entry)) for entry in archive]
        return {entry.name: (file.read() if file else None, entry.mode) for entry, file in files}


def make_project(data: Path) -> None:
    project = data / "projects" / "p1"
    (project / "sub" / "__pycache__").mkdir(parents=True)
    (project / "sub" / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    (project / "sub" / "predictor.py").write_bytes(b"x = 1\n" * 100)
    (project / "run.sh").write_bytes(b"#!")
    (project / "run.sh").chmod(0o700)


def test_a_station_reads_a_project_in_pieces(tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles_module, "PIECE_BYTES", 1000)
    make_project(tmp_path)
    read: list[bytes] = []

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        read.append(await read_bundle(station, "project/p1"))

    tell(story)
    tell(story)
    assert content(read[0]) == {
        "run.sh": (b"#!", 0o755),
        "sub": (None, 0o755),
        "sub/predictor.py": (b"x = 1\n" * 100, 0o644),
    }
    assert read[0] == read[1]


def test_of_models_a_station_is_given_those_that_its_worker_is_to_load(tell: Tell, tmp_path: Path) -> None:
    fetched, own = tmp_path / "models" / "k1", tmp_path / "elsewhere" / "m.onnx"
    for path in (fetched / "files" / "m.onnx", own, tmp_path / "models" / "k2" / "secret"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
    read: list[bytes] = []

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        models = [{"path": str(fetched / "files" / "m.onnx")}, {"path": str(own)}]
        folder.setup.write_text(json.dumps({"models": models}))
        setup = folder.setup.read_text()
        names = model_bundles(model_paths(setup), tmp_path)
        station = await ScriptedStation.enter(door, ticket_of(folder))
        read.extend([await read_bundle(station, name) for name in names.values()])
        station.say({"type": "read", "id": 5, "bundle": "model/k2", "offset": 0})
        assert "`model/k2` cannot be had" in (await station.hear("piece"))["error"]

    tell(story)
    files = [name for bundle in read for name, (data, _) in content(bundle).items() if data]
    assert files == ["k1/files/m.onnx", "m.onnx"]


@pytest.mark.parametrize("name", ["project/", "project/..", "project/p1/sub", "project/p2", "jobs/p1", "", "model/"])
def test_nothing_else_can_be_read(tell: Tell, tmp_path: Path, name: str) -> None:
    make_project(tmp_path)
    (tmp_path / "projects" / "p2").mkdir()  # another one's

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        folder.setup.write_text("{}")
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.say({"type": "read", "id": 5, "bundle": name, "offset": 0})
        piece = await station.hear("piece")
        assert (piece["total"], piece["data"]) == (0, b"")
        assert "cannot be had from the operator" in piece["error"]

    tell(story)


def test_a_project_that_is_gone_is_not_given_as_an_empty_one(tell: Tell) -> None:
    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        station = await ScriptedStation.enter(door, ticket_of(folder))
        station.say({"type": "read", "id": 5, "bundle": "project/p1", "offset": 0})
        assert "`project/p1` cannot be had" in (await station.hear("piece"))["error"]

    tell(story)


def test_what_is_packed_for_one_job_another_one_cannot_read(tell: Tell, tmp_path: Path) -> None:
    make_project(tmp_path)

    async def story(heard: Heard, door: Door, folder: JobFolder) -> None:
        first = await ScriptedStation.enter(door, ticket_of(folder))
        await read_bundle(first, "project/p1")

        other_job, _ = make_job(tmp_path / "jobs" / "other", 1)
        other = await ScriptedStation.enter(door, ticket_of(other_job, f"{WORKER[:-1]}8", project_id="p2"))
        other.say({"type": "read", "id": 5, "bundle": "project/p1", "offset": 0})
        assert "`project/p1` cannot be had" in (await other.hear("piece"))["error"]

    tell(story)


def test_a_bundle_that_nobody_has_read_for_long_is_removed_and_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path)
    folder, _ = make_job(tmp_path / "jobs" / "j", 1)
    folder.setup.write_text("{}")
    asked = {"id": 1, "bundle": "project/p1", "offset": 512}
    packed = tmp_path / "bundles" / "project-p1.tar"

    async def story() -> None:
        bundles = Bundles(data=tmp_path)
        first = await bundles.read(ticket_of(folder), asked)
        monkeypatch.setattr(bundles_module, "_KEPT_SECONDS", -1.0)
        await bundles.read(ticket_of(folder), {**asked, "bundle": "model/none"})
        assert not packed.exists()
        monkeypatch.undo()
        assert await bundles.read(ticket_of(folder), asked) == first

    asyncio.run(story())
    assert packed.exists()


# The secret


def test_the_secret_is_made_once_and_only_this_user_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "channel.secret"
    (tmp_path / "channel.new").write_text("half of one")
    secret = channel_secret(path)

    assert len(secret) == 64
    assert secret == channel_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "channel.secret"
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append((os.fstat(file).st_size, path.exists())))

    channel_secret(path)

    assert synced == [(64, False)]
