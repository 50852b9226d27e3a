"""The engine of one machine: the supervisors that it starts one after the other."""

from collections.abc import Callable
from pathlib import Path

import psutil

from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.engines.engine import WorkerOrder
from cortex.engines.processes import ProcessEngine


class Heard:
    """A listener that keeps what it heard of exits."""

    def __init__(self) -> None:
        self.exited: list[str] = []

    def worker_started(self, worker: str, *, pid: int, process_started_at: float, supervisor: str) -> None:
        pass

    def worker_drained(self, worker: str) -> None:
        pass

    def worker_exited(self, worker: str, ending: Exit) -> None:
        self.exited.append(worker)


class Peer:
    def send(self, frame: Frame) -> None:
        pass


def order(worker: str, folder: Path) -> WorkerOrder:
    return WorkerOrder(
        worker=worker,
        job_id="j",
        folder=folder,
        log=folder / "log",
        python=Path("python"),
        project=folder,
        predictor_path="predictor.py",
        python_path=None,
        inherited={},
        env={},
    )


def test_a_supervisor_is_given_up_at_the_end_of_its_own_time_only(tmp_path: Path) -> None:
    timers: list[Callable[[], None]] = []  # how long a supervisor may take to come
    soon: list[Callable[[], None]] = []
    heard = Heard()
    engine = ProcessEngine(
        channel=tmp_path / "nobody.sock",
        log=tmp_path / "supervisor.log",
        log_limit_bytes=1000,
        keep_warm_seconds=0,
        call_later=lambda seconds, call: (timers if seconds > 1 else soon).append(call) or (lambda: None),
        listener=heard,
    )
    engine.start(order("first", tmp_path))
    (first,) = psutil.Process().children()
    peer = Peer()
    engine.supervisor_connected(peer, {"supervisor": "s", "pid": first.pid, "workers": []})
    engine.supervisor_says({"type": "exited", "worker": "first", "exit_status": 0})
    engine.idle()
    first.kill()
    engine.supervisor_lost(peer)
    while soon:  # until the killed one is gone
        soon.pop()()
    engine.start(order("second", tmp_path))

    timers[0]()  # the first one's time is over
    too_early = list(heard.exited)
    timers[1]()
    engine.end()

    assert too_early == ["first"]
    assert heard.exited == ["first", "second"]
