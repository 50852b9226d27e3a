"""Who is silent, and which processes are stopped: what is counted, and what is not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex.domain.frame import FrameReader
from cortex.domain.silence import Silence
from cortex.worker.link import offer
from cortex.worker.stopped import Stopped, is_gone

PROC = Path("/proc")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def go_on(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, process.pid, os.WCONTINUED)


def write_stat(proc: Path, pid: int, *, state: str, ticks: int = 5) -> None:
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    ids = " ".join("1" * 10)
    (proc / str(pid) / "stat").write_text(f"{pid} (a) T (name) {state} {ids} {ticks} 7 0 0 20 0")


def test_silence_lasts_from_the_first_look_that_found_it() -> None:
    silence: Silence[str] = Silence()

    found = [silence.look(["a"], seconds=2) for _ in range(4)]

    assert [[], [], ["a"], ["a"]] == found


def test_who_is_heard_once_has_the_whole_time_again() -> None:
    silence: Silence[str] = Silence()

    found = [silence.look(silent, seconds=1) for silent in (["a", "b"], ["b"], ["a", "b"], ["a"])]

    assert [[], ["b"], ["b"], ["a"]] == found


@pytest.mark.skipif(not PROC.is_dir(), reason="there is no /proc")
def test_a_process_that_is_stopped_for_long_is_found(process: subprocess.Popen[bytes]) -> None:
    stopped = Stopped(PROC)
    stop(process)

    found = [stopped.look({"w": process.pid}, seconds=1) for _ in range(2)]

    assert [[], ["w"]] == found


@pytest.mark.skipif(not PROC.is_dir(), reason="there is no /proc")
def test_a_process_that_is_stopped_briefly_is_left_alone(process: subprocess.Popen[bytes]) -> None:
    stopped = Stopped(PROC)

    found = []
    for change in (stop, go_on, stop):
        change(process)
        found.append(stopped.look({"w": process.pid}, seconds=1))

    assert [[], [], []] == found


def test_a_process_that_a_debugger_has_stopped_is_found(tmp_path: Path) -> None:
    stopped = Stopped(tmp_path)
    for pid, state in enumerate("tTRSDZ", start=1):
        write_stat(tmp_path, pid, state=state)
    pids = {state: pid for pid, state in enumerate("tTRSDZ", start=1)} | {"gone": 99}

    found = [sorted(stopped.look(pids, seconds=1)) for _ in range(2)]

    assert [[], ["T", "t"]] == found


def test_a_process_that_has_run_between_two_looks_was_not_stopped_all_along(tmp_path: Path) -> None:
    stopped = Stopped(tmp_path)

    found = []
    for ticks in (1, 2, 3, 3):
        write_stat(tmp_path, 1, state="T", ticks=ticks)
        found.append(stopped.look({"w": 1}, seconds=1))

    assert [[], [], [], ["w"]] == found


def test_a_process_is_dead_when_all_its_threads_are_and_nobody_has_reaped_it_since_the_last_look(
    tmp_path: Path,
) -> None:
    stopped = Stopped(tmp_path)
    for pid, states in enumerate(("ZZ", "ZS", "S"), start=1):
        for thread, state in enumerate(states):
            write_stat(tmp_path / str(pid) / "task", thread, state=state)
    pids = {"dead": 1, "without its first thread": 2, "alive": 3, "gone": 99}

    found = [stopped.look_for_dead(pids) for _ in range(2)]

    assert [[], ["dead"]] == found


def test_nobody_waits_to_offer_a_frame_to_a_peer_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(bytes(5))
        ours.setblocking(True)

        offer(ours, {"type": "beat"})
        unread = theirs.recv(1 << 20)
        offer(ours, {"type": "beat"})

        assert set(unread) == {0}
        while data := theirs.recv(1 << 20):
            if data.strip(b"\0"):
                break
    assert [{"type": "beat"}] == FrameReader().feed(data.lstrip(b"\0"))


def test_a_peer_that_is_gone_is_told_to_whoever_offers_a_frame() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()

    with ours, pytest.raises(BrokenPipeError):
        offer(ours, {"type": "beat"})


def test_a_thread_that_ends_while_it_is_looked_at_is_as_gone_as_one_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stat(tmp_path / "7" / "task", 7, state="Z")
    write_stat(tmp_path / "7" / "task", 8, state="S")
    read_text = Path.read_text

    def read_or_end(path: Path, **how: str) -> str:
        if path.parent.name == "8":
            raise ProcessLookupError
        return read_text(path, **how)

    was_gone = is_gone(tmp_path, 7)
    monkeypatch.setattr(Path, "read_text", read_or_end)

    assert (False, True) == (was_gone, is_gone(tmp_path, 7))
