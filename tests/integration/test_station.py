"""A station: what it brings from the operator to supervisor and Worker, and back, whatever dies or is cut."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from channel_peer import TIMEOUT_SECONDS
from cortex.domain.batch import BatchState, Page
from lone_station import JOB, SECRET, WORKER, Door, StationPeer, Stations, entries, pack, start_frame, states
from processes import name_of

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc to see it in")

OTHER = f"{JOB}-w2"
SUCCEEDED_WITH_ROWS = BatchState.SUCCEEDED_WITH_ROWS

DOUBLES = """
    import os, time

    class PythonPredictor:
        def __init__(self, config):
            print("constructed", flush=True)
            self.gate = config.get("gate")

        def predict(self, payload):
            if payload == ["wait"]:
                print("in predict", flush=True)
                while not os.path.exists(self.gate):
                    time.sleep(0.01)
            if payload == ["environ"]:
                return dict(os.environ)
            return [item * 2 for item in payload]
"""


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door({"project/p1": pack({"predictor.py": DOUBLES})})
    yield door
    door.close()


@pytest.fixture
def stations(tmp_path: Path) -> Iterator[Stations]:
    stations = Stations(tmp_path / "node")
    yield stations
    stations.end()


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


Begin = Callable[..., tuple["subprocess.Popen[bytes]", StationPeer]]


@pytest.fixture
def begin(door: Door, stations: Stations, gate: Path) -> Begin:
    """Start a station, and the Worker beside it, until it waits for a Lease."""

    def begin(**start: object) -> tuple["subprocess.Popen[bytes]", StationPeer]:
        process = stations.start(door)
        peer = door.accept()
        hello = peer.ready(start_frame(config={"gate": str(gate)}, **start))
        assert "ready" == hello["phase"]
        return process, peer

    return begin


def batch(*items: object) -> bytes:
    return json.dumps(items).encode()


def children(process: "subprocess.Popen[bytes]") -> dict[str, psutil.Process]:
    """Give what a station runs, by name."""
    return {name_of(child): child for child in psutil.Process(process.pid).children(recursive=True)}


def await_end(*processes: psutil.Process) -> None:
    _, alive = psutil.wait_procs(processes, timeout=TIMEOUT_SECONDS)
    assert [] == alive


def test_a_station_shows_its_ticket_and_says_where_it_runs(door: Door, stations: Stations) -> None:
    process = stations.start(door)

    hello = door.accept().hello

    assert ("station", process.pid) == (hello["role"], hello["pid"])
    assert SECRET not in json.dumps(hello)


def test_what_a_lease_gives_arrives_before_its_end(begin: Begin, door: Door) -> None:
    _, peer = begin()

    ended = peer.lease(5, [batch(1), batch(2, 3)], first=100)

    assert (5, 2, 0) == (ended["token"], ended["finished"], ended["failed"])
    kinds = [frame["type"] for frame in peer.heard if "log" != frame["type"]]
    assert ({"page", "rows"}, ["written", "lease_ended"]) == (set(kinds[:-2]), kinds[-2:])
    (written,) = door.written
    assert (5, 100, 0) == (written["token"], written["first"], written["index_at"])
    assert [SUCCEEDED_WITH_ROWS, SUCCEEDED_WITH_ROWS] == states(written)
    assert [(100, 5, b"2\n"), (101, 5, b"4\n6\n")] == [
        (entry.batch, entry.token, bytes(door.rows[entry.offset : entry.offset + entry.length]))
        for entry in entries(written)
    ]
    assert (0, 2) == (door.word(Page.CURRENT), door.word(Page.FINISHED))


def test_the_entries_of_a_lease_follow_those_of_the_last(begin: Begin, door: Door) -> None:
    _, peer = begin()

    peer.lease(5, [batch(1)])
    peer.lease(6, [batch(2)], first=1)

    first, second = door.written
    assert len(first["data"]) - first["states"] == second["index_at"]
    assert [(1, 6)] == [(entry.batch, entry.token) for entry in entries(second)]
    assert b"2\n4\n" == door.rows


def test_the_files_of_a_lease_are_gone_with_the_next(begin: Begin, stations: Stations) -> None:
    _, peer = begin()
    for token in range(1, 6):
        peer.lease(token, [batch(token)], first=token)

    segments = stations.node / "stations" / WORKER / "segments"

    assert 3 == len(list(segments.iterdir()))


def test_a_payload_may_come_before_its_lease_in_pieces(begin: Begin, door: Door) -> None:
    _, peer = begin()
    batches = [batch("x" * 1000 + str(number)) for number in range(50)]

    peer.lease(1, batches, in_pieces=1001)

    assert [json.loads(each)[0] * 2 for each in batches] == [json.loads(line) for line in door.rows.splitlines()]


def test_rows_larger_than_a_frame_arrive_whole(begin: Begin, door: Door) -> None:
    _, peer = begin()
    items = ["y" * 900_000 + str(number) for number in range(4)]

    peer.lease(1, [batch(item) for item in items])

    assert max(len(frame["data"]) for frame in peer.heard if frame["type"] == "rows") <= 1 << 20
    assert [item * 2 for item in items] == [json.loads(line) for line in door.rows.splitlines()]


def test_what_is_damaged_or_has_changed_is_told_as_on_the_operators_machine(begin: Begin, door: Door) -> None:
    _, peer = begin()

    peer.lease(1, [b""], problem="`/data` has changed since the job was submitted; predict was not called")
    peer.lease(2, [b""], first=1)

    changed, damaged = (json.loads(line) for line in door.rows.splitlines())
    assert [[BatchState.FAILED], [BatchState.FAILED]] == [states(written) for written in door.written]
    assert ("SourceChanged", "`/data` has changed since the job was submitted; predict was not called") == (
        changed["type"],
        changed["message"],
    )
    assert "DataDamaged" == damaged["type"]


def test_what_an_earlier_job_has_kept_of_a_batch_is_not_run_again(begin: Begin, door: Door) -> None:
    _, peer = begin()
    kept = {"worker": "old-w1", "offset": 9999, "length": 8, "failed": [[1, 2, 1]]}

    peer.lease(1, [batch("a", "b", "c")], kept=kept, kept_data=b'"A"\n"C"\n')

    assert ["A", "bb", "C"] == [json.loads(line) for line in door.rows.splitlines()]


def test_the_worker_has_its_nodes_variables_and_those_that_are_its_own(door: Door, stations: Stations) -> None:
    strange = {"RAY_ADDRESS": "x", "PYTHONNOUSERSITE": "1", "CORTEX_API_KEY": "k", "OF_NODE": "2"}
    stations.start(door, env=strange)
    peer = door.accept()
    peer.ready(start_frame())

    peer.lease(1, [batch("environ")])

    environ = json.loads(door.rows)
    assert ("1", "2", JOB, "") == tuple(
        environ.get(name) for name in ("MINE", "OF_NODE", "CORTEX_JOB_ID", "CUDA_VISIBLE_DEVICES")
    )
    assert set() == {"OPERATORS", "RAY_ADDRESS", "PYTHONNOUSERSITE", "CORTEX_API_KEY"} & set(environ)


def test_the_page_shows_the_batch_that_a_worker_is_long_in(begin: Begin, door: Door, gate: Path) -> None:
    _, peer = begin()
    peer.offer(1, [batch(1), batch("wait")], first=10)

    while 12 != door.word(Page.CURRENT):
        peer.hear("page")
    peer.hear("rows")
    assert b"2\n" == door.rows
    assert [] == door.written

    gate.touch()
    peer.hear("lease_ended", "worker")


def test_a_lowered_limit_is_seen_before_the_answer_and_kept_to(begin: Begin, door: Door, gate: Path) -> None:
    _, peer = begin()
    peer.offer(1, [batch("wait"), batch(2), batch(3)])
    while 1 != door.word(Page.CURRENT):
        peer.hear("page")

    peer.send({"type": "limit", "id": 77, "token": 1, "limit": 1})
    assert 77 == peer.hear("page_seen")["id"]
    assert ["page", "written", "page_seen"] == [frame["type"] for frame in peer.heard if frame["type"] != "log"][-3:]
    gate.touch()
    peer.hear("lease_ended", "worker")

    assert [SUCCEEDED_WITH_ROWS, BatchState.OPEN, BatchState.OPEN] == states(door.written[-1])


def test_a_limit_of_another_lease_changes_nothing(begin: Begin, door: Door) -> None:
    _, peer = begin()
    peer.lease(1, [batch(1)])
    peer.send({"type": "limit", "id": 1, "token": 2, "limit": 0})
    peer.hear("page_seen")

    ended = peer.lease(3, [batch(1)])

    assert 1 == ended["finished"]


def test_a_cut_connection_is_made_again_and_the_model_stays(begin: Begin, door: Door) -> None:
    process, peer = begin()
    peer.lease(1, [batch(1)])
    worker = children(process)["cortex-worker"]

    peer.cut()
    peer = door.accept()
    supervisor, hello = peer.meet_again()
    ended = peer.lease(2, [batch(4)], first=1)

    assert [(WORKER, worker.pid)] == [(each["worker"], each["pid"]) for each in supervisor["workers"]]
    assert ("ready", 1) == (hello["phase"], ended["finished"])
    assert b"2\n8\n" == door.rows
    assert 1 == door.log.count(b"constructed")


def test_what_was_told_before_a_cut_is_told_again_alike(begin: Begin, door: Door) -> None:
    _, peer = begin()
    peer.lease(1, [batch(1), batch(2)])
    rows = bytes(door.rows)
    door.rows.clear()

    peer.cut()
    peer = door.accept()
    peer.hear("hello", "worker")

    assert rows == door.rows
    assert door.written[0] == door.written[-1]
    kinds = [frame["type"] for frame in peer.heard]
    assert kinds.index("rows") < kinds.index("written") < kinds.index("hello", 1)


def test_what_has_ended_while_nobody_heard_is_told_before_the_worker_comes_back(
    begin: Begin, door: Door, gate: Path
) -> None:
    _, peer = begin()
    peer.offer(1, [batch(1), batch("wait")])
    while 2 != door.word(Page.CURRENT):
        peer.hear("page")

    peer.cut()
    gate.touch()
    peer = door.accept()
    peer.hear("hello", "worker")

    assert [SUCCEEDED_WITH_ROWS, SUCCEEDED_WITH_ROWS] == states(door.written[-1])
    assert b'2\n"waitwait"\n' == door.rows
    assert "lease_ended" not in [frame["type"] for frame in peer.heard]


def test_a_killed_worker_has_its_finished_batches_told_before_its_end(begin: Begin, door: Door) -> None:
    process, peer = begin()
    peer.offer(1, [batch(1), batch("wait")])
    while 2 != door.word(Page.CURRENT):
        peer.hear("page")

    children(process)["cortex-worker"].kill()
    exited = peer.hear("exited", "supervisor")

    assert -signal.SIGKILL == exited["exit_status"]
    assert [SUCCEEDED_WITH_ROWS, BatchState.OPEN] == states(door.written[-1])
    kinds = [frame["type"] for frame in peer.heard]
    assert kinds.index("written") < kinds.index("exited")
    assert 2 == door.word(Page.CURRENT)


def test_the_log_has_all_before_it_is_said_to_be_drained(begin: Begin, door: Door) -> None:
    _, peer = begin()

    peer.send({"peer": "worker", "type": "finish", "message": "no batches left in queue"})
    peer.hear("drained", "supervisor")

    assert b"constructed\n" in door.log
    assert b"no batches left in queue\n" in door.log


def test_nobody_listens_while_there_is_no_operator(begin: Begin, door: Door, stations: Stations) -> None:
    process, peer = begin()
    channel = stations.node / "stations" / WORKER / "channel"
    assert channel.exists()

    door.close()
    peer.cut()

    while channel.exists():
        os.sched_yield()
    connections = [each for each in psutil.Process(process.pid).net_connections("unix") if each.raddr]
    while [each for each in connections if str(channel) in each.laddr]:
        connections = psutil.Process(process.pid).net_connections("unix")
    door.reopen()
    peer = door.accept()
    peer.hear("hello", "worker")
    assert channel.exists()


def test_a_killed_station_takes_supervisor_and_worker_with_it(begin: Begin) -> None:
    process, _ = begin()
    others = children(process)
    assert {"cortex-superv", "cortex-worker"} == set(others)

    process.kill()

    await_end(*others.values())


def test_the_next_station_removes_what_a_killed_one_has_left(begin: Begin, door: Door, stations: Stations) -> None:
    process, _ = begin()
    process.kill()
    process.wait()
    assert (stations.node / "stations" / WORKER).exists()

    stations.start(door, worker=OTHER)
    frame = start_frame()
    frame["order"]["worker"] = OTHER
    door.accept().ready(frame)

    while (stations.node / "stations" / WORKER).exists():
        os.sched_yield()
    assert (stations.node / "stations" / OTHER).exists()


def test_a_station_ends_when_it_is_told_to_and_leaves_nothing(begin: Begin, stations: Stations) -> None:
    process, peer = begin()
    others = children(process)

    peer.send({"type": "end"})

    assert 0 == process.wait(TIMEOUT_SECONDS)
    await_end(*others.values())
    assert not (stations.node / "stations" / WORKER).exists()


def test_a_station_leaves_its_project_to_the_next_and_removes_what_was_not_used_for_a_week(
    begin: Begin, stations: Stations
) -> None:
    process, peer = begin()
    for name, days in {"project-of-last-month": 30, "project-of-yesterday": 1}.items():
        (stations.node / "projects" / name).mkdir()
        use = stations.node / "uses" / "projects" / name
        use.touch()
        os.utime(use, (time.time() - days * 24 * 3600,) * 2)

    peer.send({"type": "end"})

    assert 0 == process.wait(TIMEOUT_SECONDS)
    left = sorted(path.name for path in (stations.node / "projects").iterdir())
    assert ["p1", "project-of-yesterday"] == left


def test_a_station_of_another_version_ends(door: Door, stations: Stations) -> None:
    process = stations.start(door)
    peer = door.accept()

    peer.send({"type": "end", "why": "it is of cortex 9.9"})

    assert 0 == process.wait(TIMEOUT_SECONDS)


def test_a_station_whose_supervisor_was_killed_tells_what_is_left_and_ends(begin: Begin, door: Door) -> None:
    process, peer = begin()
    peer.offer(1, [batch(1), batch("wait")])
    while 2 != door.word(Page.CURRENT):
        peer.hear("page")
    others = children(process)

    others["cortex-superv"].kill()
    peer.hear("closed", "worker")
    # It is in its end: a process lets go of its connections a moment before it is seen to be gone.
    await_end(others["cortex-worker"])
    peer.hear("closed", "supervisor")
    peer.hear_to_the_end()

    assert ["worker", "supervisor"] == [frame["peer"] for frame in peer.heard if frame["type"] == "closed"]
    assert [SUCCEEDED_WITH_ROWS, BatchState.OPEN] == states(door.written[-1])
    assert 0 == process.wait(TIMEOUT_SECONDS)


IMPATIENT = """
import sys
import cortex.station.station
from cortex.station.__main__ import main

cortex.station.station.ORPHAN_SECONDS = 0.1
sys.exit(main())
"""


def test_a_station_that_finds_no_operator_lives_as_long_as_its_supervisor(door: Door, stations: Stations) -> None:
    door.close()
    process = stations.start(door, command=("-c", IMPATIENT))
    while not children(process):
        os.sched_yield()

    children(process).popitem()[1].kill()

    assert 0 == process.wait(TIMEOUT_SECONDS)
    assert not (stations.node / "stations" / WORKER).exists()


def test_two_stations_make_a_project_once(door: Door, stations: Stations) -> None:
    for worker in (WORKER, OTHER):
        stations.start(door, worker=worker)
    first, second = door.accept(), door.accept()
    for peer in (first, second):
        peer.hear("hello", "supervisor")
    for peer in (first, second):
        frame = start_frame()
        frame["order"]["worker"] = json.loads(peer.hello["ticket"])["worker"]
        peer.send(frame)

    with ThreadPoolExecutor() as hearing:  # either may be the one that asks
        hellos = list(hearing.map(lambda peer: peer.hear("hello", "worker"), (first, second)))

    assert ["ready", "ready"] == [hello["phase"] for hello in hellos]
    assert ["project/p1"] == door.reads
    assert ["p1"] == [path.name for path in (stations.node / "projects").iterdir()]


def test_a_start_that_is_asked_for_again_is_one_start(door: Door, stations: Stations) -> None:
    stations.start(door)
    peer = door.accept()
    peer.hear("hello", "supervisor")

    peer.send(start_frame())
    peer.send(start_frame())
    peer.hear("hello", "worker")
    peer.send(start_frame())
    peer.lease(1, [batch(1)])

    assert 1 == len([frame for frame in peer.all_heard if frame["type"] == "started"])


def test_a_connection_that_is_cut_while_a_project_is_read_costs_nothing_but_time(
    door: Door, stations: Stations
) -> None:
    stations.start(door)
    peer = door.accept()
    peer.hear("hello", "supervisor")
    bundles, door.bundles = door.bundles, {}
    peer.send(start_frame())
    while "read" not in [frame["type"] for frame in peer._reader.feed(peer.connection.recv(1 << 20))]:
        continue

    peer.cut()
    door.bundles = bundles
    peer = door.accept()
    peer.hear("hello", "supervisor")
    peer.send(start_frame())

    assert "ready" == peer.hear("hello", "worker")["phase"]


def test_a_project_that_the_operator_cannot_give_is_told(door: Door, stations: Stations) -> None:
    stations.start(door)
    peer = door.accept()
    peer.hear("hello", "supervisor")

    peer.send(start_frame(project_id="p9"))

    assert "there is no such bundle" in peer.hear("failed")["error"]


def test_requirements_that_cannot_be_installed_are_told(stations: Stations) -> None:
    files = {"predictor.py": DOUBLES, "requirements.txt": "no-such-package-of-anybody==1.0\n"}
    door = Door({"project/p1": pack(files)})
    stations.start(door, env={"UV_NO_INDEX": "1", "UV_OFFLINE": "1"})
    peer = door.accept()
    peer.hear("hello", "supervisor")

    peer.send(start_frame(requirements=True))
    error = peer.hear("failed")["error"]
    door.close()

    assert error.startswith("could not start: the project's requirements cannot be installed")
    assert "no-such-package-of-anybody" in error
    assert "installing the project's requirements..." in door.said
    used = {path.relative_to(stations.node / "uses").parts[0] for path in (stations.node / "uses").rglob("*")}
    assert {"projects", "environments", "uv-cache"} == used  # nobody removes these meanwhile


def test_a_worker_that_is_stopped_before_its_start_is_not_started(door: Door, stations: Stations) -> None:
    process = stations.start(door)
    peer = door.accept()
    peer.hear("hello", "supervisor")
    bundles, door.bundles = door.bundles, {}
    peer.send(start_frame())
    peer.send({"peer": "supervisor", "type": "stop", "worker": WORKER, "at_once": False, "grace_seconds": 1.0})
    exited = peer.hear("exited", "supervisor")
    door.bundles = bundles

    assert (WORKER, 0) == (exited["worker"], exited["exit_status"])
    assert ["cortex-superv"] == list(children(process))


def test_models_are_loaded_from_where_they_lie_here(stations: Stations) -> None:
    predictor = """
        import json

        class PythonPredictor:
            def __init__(self, config):
                pass

            def predict(self, payload):
                setup = json.load(open(payload[0]))
                return [open(model["path"]).read() for model in setup["models"]]
    """
    project = {"predictor.py": predictor, "models/own.onnx": "own"}
    model = {"m.onnx/inner.onnx": "fetched"}
    door = Door({"project/p1": pack(project), "model/k1": pack(model)})
    stations.start(door)
    peer = door.accept()
    models = [
        {"name": "own", "path": "/srv/cortex/projects/p1/models/own.onnx", "signature_key": None},
        {"name": "fetched", "path": "/srv/cortex/models/m.onnx/inner.onnx", "signature_key": None},
    ]
    peer.ready(start_frame(setup={"models": models}, models={"/srv/cortex/models/m.onnx": "model/k1"}))

    peer.lease(1, [batch(str(stations.node / "stations" / WORKER / "setup.json"))])
    door.close()

    assert [["own", "fetched"]] == [json.loads(line) for line in door.rows.splitlines()]


REPLIES = """
    class PythonPredictor:
        def __init__(self, config):
            pass

        def predict(self, payload):
            return {"length": len(payload)}
"""


def test_requests_pass_with_their_bodies(stations: Stations) -> None:
    door = Door({"project/p1": pack({"predictor.py": REPLIES})})
    stations.start(door)
    peer = door.accept()
    peer.ready(start_frame(serves=True, setup={"threads_per_process": 1}))
    body = json.dumps("x" * 3_000_000).encode()

    peer.send({"peer": "worker", "type": "request", "id": 1, "content_type": "application/json"}, body)
    response = peer.hear("response", "worker")
    door.close()

    assert (1, {"length": 3_000_000}) == (response["id"], json.loads(response["data"]))
