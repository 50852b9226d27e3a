"""The engine of one machine: the supervisors that it starts one after the other, and who it lets in."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.engine import Needs, Program, WorkerOrder
from cortex.engines.places import Places
from cortex.engines.processes import ProcessEngine
from operator_process import TIMEOUT_SECONDS
from processes import children_running


class Heard:
    """A listener that keeps what it heard of exits."""

    def __init__(self) -> None:
        self.exited: list[str] = []
        self.endings: dict[str, Exit] = {}

    def worker_started(
        self, worker: str, *, pid: int, process_started_at: float, supervisor: str, node: str | None = None
    ) -> None:
        pass

    def worker_drained(self, worker: str) -> None:
        pass

    def worker_exited(self, worker: str, ending: Exit) -> None:
        self.exited.append(worker)
        self.endings[worker] = ending


class Peer:
    """A supervisor that keeps what it was told."""

    def __init__(self) -> None:
        self.heard: list[Frame] = []

    def send(self, frame: Frame) -> None:
        self.heard.append(frame)

    @property
    def started(self) -> list[str]:
        return [frame["order"]["worker"] for frame in self.heard if frame["type"] == "start"]


class Story:
    """An engine on a machine of two cores and two GPUs, and the time that passes."""

    def __init__(self, folder: Path, *, gpus: tuple[str, ...] = ("0", "1"), keep_warm_seconds: float = 600) -> None:
        self.folder = folder
        self.timers: list[Callable[[], None]] = []  # how long a supervisor may take to come
        self.soon: list[Callable[[], None]] = []
        self.heard = Heard()
        self.engine = ProcessEngine(
            channel=folder / "nobody.sock",
            log=folder / "supervisor.log",
            log_limit_bytes=1000,
            keep_warm_seconds=keep_warm_seconds,
            heartbeat_seconds=3,
            call_later=lambda seconds, call: (self.timers if seconds > 1 else self.soon).append(call) or (lambda: None),
            listener=self.heard,
            places=Places(millicores=2000, mem_bytes=2**30, devices=gpus, most_workers=256),
        )

    def connect(self, pid: int = 1, *workers: Frame, **more: bool) -> Peer:
        peer = Peer()
        hello = {"supervisor": "s", "pid": pid, "beats": True, "serves": True, "workers": list(workers)}
        hello |= more
        self.engine.supervisor_connected(peer, hello)
        return peer

    def order(self, worker: str, **needs: int) -> None:
        self.engine.start(order(worker, self.folder, Needs(**needs)))

    def exited(self, worker: str, **more: Any) -> None:
        self.engine.supervisor_says({"type": "exited", "worker": worker, "exit_status": 0, **more})

    def time_passes(self) -> None:
        due, self.soon[:] = list(self.soon), []
        for call in due:
            call()


def order(worker: str, folder: Path, needs: Needs | None = None) -> WorkerOrder:
    return WorkerOrder(
        worker=worker,
        job_id=worker[0],
        folder=folder,
        log=folder / "log",
        program=Program(
            python=Path("python"),
            project=folder,
            predictor_path="predictor.py",
            python_path=None,
            inherited={},
            env={},
            needs=needs or Needs(),
        ),
    )


def supervisor_that_was_started(besides: int | None = None) -> psutil.Process:
    """Give it once the system knows its command, which it may not at the very moment when it has been started."""
    give_up_at = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < give_up_at:
        for process in children_running("supervisor"):
            if process.pid != besides:
                return process
    raise AssertionError("no supervisor was started")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


CORE = {"millicores": 1000}


def test_a_supervisor_is_given_up_at_the_end_of_its_own_time_only(tmp_path: Path) -> None:
    story = Story(tmp_path, keep_warm_seconds=0)
    engine = story.engine
    story.order("first")
    first = supervisor_that_was_started()
    peer = story.connect(first.pid)
    story.exited("first")
    engine.idle()
    first.kill()
    engine.supervisor_lost(peer)
    while story.soon:  # until the killed one is gone
        story.time_passes()
    story.order("second")

    story.timers[0]()  # the first one's time is over
    too_early = list(story.heard.exited)
    story.timers[1]()
    engine.end()

    assert too_early == ["first"]
    assert story.heard.exited == ["first", "second"]


def test_a_worker_starts_when_there_is_room_beside_all_others(story: Story) -> None:
    peer = story.connect()
    for worker in ("a1", "a2", "a3", "b1"):
        story.order(worker, **CORE)
    before = list(peer.started)

    story.exited("a1")

    assert ["a1", "a2"] == before
    assert ["a1", "a2", "b1"] == peer.started
    assert [True, False] == [story.engine.has_place(worker) for worker in ("b1", "a3")]
    assert "each needs 1 cpu, and 2 of the machine's 2 are taken" == story.engine.shortage(Needs(**CORE))


def test_what_an_elastic_job_gives_back_goes_to_who_waits_for_it(story: Story) -> None:
    peer = story.connect()
    before = story.engine.may_keep("a", least=1)
    for worker in ("a1", "a2", "b1", "a3"):
        story.order(worker, **CORE)

    asked = story.engine.may_keep("a", least=1)
    story.exited("a2")

    assert (None, 1, None) == (before, asked, story.engine.may_keep("a", least=1))
    assert ["a1", "a2", "b1"] == peer.started


def test_a_worker_that_waits_is_withdrawn_and_told_a_moment_later(story: Story) -> None:
    peer = story.connect()
    for worker in ("a1", "a2", "a3"):
        story.order(worker, **CORE)

    story.engine.stop("a3", at_once=True)
    at_once = list(story.heard.exited)
    story.time_passes()
    story.exited("a1")

    assert ([], ["a3", "a1"]) == (at_once, story.heard.exited)
    assert ["a1", "a2"] == peer.started


def test_what_a_worker_was_given_counts_for_the_next_operator_too(story: Story, tmp_path: Path) -> None:
    peer = story.connect()
    story.order("a1", millicores=1000, mem_bytes=2**29, gpus=1)
    (frame,) = peer.heard
    following = Story(tmp_path)

    child = {"worker": "a1", "pid": None, "exit_status": None, "place": frame["place"]}
    peer = following.connect(1, child)
    following.order("b1", **CORE, gpus=1)
    following.order("b2", **CORE)
    (other,) = peer.heard
    following.exited("a1", exit_status=-9, out_of_memory=True)

    assert ("0", "1") == (frame["order"]["env"]["CUDA_VISIBLE_DEVICES"], other["order"]["env"]["CUDA_VISIBLE_DEVICES"])
    assert ["b1", "b2"] == peer.started
    cause = "ran out of memory: it is limited to 512Mi (compute.mem)"
    assert cause == following.heard.endings["a1"].cause


def test_a_worker_without_gpus_finds_none_where_there_are_some(story: Story, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with_none = Story(tmp_path / "other", gpus=())
    started = []
    for each in (story, with_none):
        peer = each.connect()
        each.order("a1")
        started += peer.heard

    assert [{"CUDA_VISIBLE_DEVICES": ""}, {}] == [frame["order"]["env"] for frame in started]
    assert [{"CUDA_VISIBLE_DEVICES": ""}, {}] == [frame["env"] for frame in started]


@pytest.fixture
def earlier(story: Story) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like the supervisor of an earlier operator, and does nothing."""
    wait = "print('there', flush=True); import sys; sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", wait, "supervisor", str(story.engine.channel), "s"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"there\n"
    yield process
    process.kill()
    process.communicate()


def test_nobody_gets_a_place_before_the_supervisor_of_an_earlier_operator_has_told_whom_it_has(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    story.engine.recover()
    story.order("b1", millicores=2000)
    story.time_passes()
    other = story.connect(earlier.pid + 1)
    before = list(other.started)
    place = {"job_id": "a", "millicores": 1000, "mem_bytes": 0, "gpus": 0, "devices": []}
    child = {"worker": "a1", "pid": None, "exit_status": None, "place": place}

    asked = story.engine.may_keep("a", least=0)
    peer = story.connect(earlier.pid, child)
    still = [*other.started, *peer.started]
    asked_then = story.engine.may_keep("a", least=0)
    story.exited("a1")

    assert ([], []) == (before, still)
    assert (None, 0) == (asked, asked_then)  # nothing is asked back before it is known what there is
    assert ["b1"] == [*other.started, *peer.started]


def test_workers_of_an_earlier_operator_may_return_while_their_supervisor_lives(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    story.engine.recover()
    before = story.engine.may_return()

    earlier.kill()
    earlier.communicate()
    story.time_passes()

    assert (True, False) == (before, story.engine.may_return())


def test_a_supervisor_of_an_earlier_operator_that_is_gone_is_not_waited_for(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    peer = story.connect()
    story.engine.recover()
    story.order("b1")
    before = list(peer.started)

    earlier.kill()
    earlier.communicate()
    story.time_passes()

    assert ([], ["b1"]) == (before, peer.started)


def test_a_supervisor_of_an_earlier_operator_that_does_not_come_back_is_killed(
    story: Story, earlier: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex.engines.processes._RETURN_SECONDS", -1.0)
    peer = story.connect()
    story.engine.recover()
    story.order("b1")

    earlier.communicate()  # until it is dead
    story.time_passes()

    assert ["b1"] == peer.started


def beats(story: Story, process: subprocess.Popen[bytes]) -> None:
    story.engine.supervisor_says({"type": "beat", "pid": process.pid})


def test_a_supervisor_that_has_been_silent_for_the_deadline_is_killed_and_replaced(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    peer = story.connect(earlier.pid)
    story.order("a1")

    for _ in range(5):  # at the first it has been heard; the silence lasts from the second on
        story.time_passes()
    returncode = earlier.wait()
    story.engine.supervisor_lost(peer)
    story.time_passes()
    other = story.connect(1)
    story.order("a2")

    assert (-9, ["a1"], ["a2"]) == (returncode, story.heard.exited, other.started)
    assert not story.heard.endings["a1"].is_charged


def test_a_supervisor_that_is_heard_now_and_then_is_left_alone(story: Story, earlier: subprocess.Popen[bytes]) -> None:
    story.connect(earlier.pid)

    for _ in range(5):
        for _ in range(4):  # one look before the deadline
            story.time_passes()
        beats(story, earlier)

    earlier.communicate()  # it ends by itself
    assert 0 == earlier.returncode


def test_a_supervisor_that_is_silent_when_it_is_to_end_is_killed(
    tmp_path: Path, earlier: subprocess.Popen[bytes]
) -> None:
    story = Story(tmp_path, keep_warm_seconds=0)

    peer = story.connect(earlier.pid)
    for _ in range(5):
        story.time_passes()

    assert ([{"type": "end"}], -9) == (peer.heard, earlier.wait())


def test_a_supervisor_of_a_version_that_did_not_beat_is_left_alone(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    story.connect(earlier.pid, beats=False)

    for _ in range(9):  # more than the deadline
        story.time_passes()

    earlier.communicate()  # it ends by itself
    assert 0 == earlier.returncode


def test_a_supervisor_of_a_version_that_did_not_serve_keeps_its_workers_and_starts_no_others(
    story: Story, earlier: subprocess.Popen[bytes]
) -> None:
    place = {"millicores": 1000, "mem_bytes": 0, "gpus": 0, "job_id": "e", "devices": []}
    worker = {"worker": "earlier", "pid": earlier.pid, "exit_status": None, "place": place}
    peer = story.connect(earlier.pid, worker, serves=False)
    story.order("new", **CORE)
    story.engine.warm_up(order("blank", story.folder), 1)
    started = supervisor_that_was_started(besides=earlier.pid)
    present = story.connect(started.pid)

    story.engine.stop("earlier", at_once=True)

    assert ["stop"] == [frame["type"] for frame in peer.heard]
    assert ["warm_up", "start"] == [frame["type"] for frame in present.heard]
    started.kill()
    story.engine.end()
    earlier.communicate()


def test_an_operator_that_was_stopped_takes_its_own_silence_for_nobody_elses(
    story: Story, earlier: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    story.connect(earlier.pid)
    story.time_passes()

    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    monkeypatch.setattr("time.time", lambda: 1e12)
    story.time_passes()  # the look that was due when it was stopped, before what has been sent since is read
    beats(story, earlier)

    earlier.communicate()  # it ends by itself
    assert 0 == earlier.returncode


def test_a_worker_that_was_killed_because_it_was_stopped_is_not_to_blame(story: Story) -> None:
    peer = story.connect()
    story.order("a1")

    story.exited("a1", exit_status=-9, stopped_seconds=30.0)
    (start, *_) = peer.heard

    ending = story.heard.endings["a1"]
    assert ("was stopped for 30 s and killed", False) == (ending.cause, ending.is_charged)
    assert 3 == start["heartbeat_seconds"]


def kinds(peer: Peer) -> list[str]:
    return [frame["type"] for frame in peer.heard]


def test_a_supervisor_is_told_what_to_make_ready_before_it_starts_anybody(story: Story) -> None:
    story.engine.warm_up(order("a1", story.folder), 2)
    story.order("a1")
    supervisor = supervisor_that_was_started()

    peer = story.connect(supervisor.pid)
    supervisor.kill()
    story.engine.end()

    assert ["warm_up", "start"] == kinds(peer)[:2]
    assert 2 == peer.heard[0]["count"]


@pytest.mark.parametrize(("keep_warm_seconds", "gpus"), [(0, 0), (600, 1)])
def test_nothing_is_made_ready_that_could_not_be_kept_or_used(
    tmp_path: Path, keep_warm_seconds: float, gpus: int
) -> None:
    story = Story(tmp_path, keep_warm_seconds=keep_warm_seconds)
    peer = story.connect()

    story.engine.warm_up(order("a1", tmp_path, Needs(gpus=gpus)), 2)

    assert "warm_up" not in kinds(peer)
