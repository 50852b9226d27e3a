"""The engine of one machine: Workers are processes of one supervisor.

The supervisor is started when the first Worker is wanted and outlives the operator; the next operator finds it, or
what it left behind, and goes on. What a Worker has been given of the machine, its supervisor tells every operator.
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import cortex.worker
from cortex.domain.ending import Exit
from cortex.domain.frame import Frame
from cortex.domain.silence import BEAT_SECONDS, Silence
from cortex.domain.timing import Timer
from cortex.engines.devices import VISIBLE_DEVICES
from cortex.engines.engine import Connection, Engine, EngineListener, Needs, WorkerOrder
from cortex.engines.places import Place, Places
from cortex.engines.process_table import is_there, kill, process_started_at, supervisors_of
from cortex.engines.supervisor_frames import LOST_WITH_SUPERVISOR, read_exit, read_place, write_start, write_stop
from cortex.worker.memory import clear_up_for_good, memory_limits

logger = logging.getLogger(__name__)

_KILL_TIMEOUT_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 20.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_RETURN_SECONDS: Final = 5.0  # so long the supervisor of an earlier operator has to come back: it tries every 50 ms


@dataclass(frozen=True, slots=True)
class _Supervisor:
    """Who a supervisor is."""

    name: str
    pid: int
    beats: bool  # False of one that an earlier version of cortex has started: its silence means nothing
    serves: bool  # False, too: the Workers that it starts know neither replicas nor models


@dataclass(slots=True)
class _Known:
    """A Worker that was ordered here."""

    order: WorkerOrder | None = None  # None for one that an earlier operator ordered
    supervisor: Connection | None = None  # None until one is there to start it
    pid: int | None = None
    is_drained: bool = False


@dataclass(slots=True)
class ProcessEngine(Engine):
    """See the module. All methods are called from the operator's thread."""

    channel: Path
    log: Path
    log_limit_bytes: int
    keep_warm_seconds: float
    heartbeat_seconds: float
    call_later: Timer
    listener: EngineListener
    places: Places
    _missing: set[int] = field(default_factory=set)  # supervisors of earlier operators that have not come back yet
    _workers: dict[str, _Known] = field(default_factory=dict)
    _supervisors: dict[Connection, _Supervisor] = field(default_factory=dict)
    _ending: dict[Connection, _Supervisor] = field(default_factory=dict)  # told to end: they start no Worker any more
    _process: subprocess.Popen[bytes] | None = None  # the supervisor that was started last
    _is_awaited: bool = False  # until it has introduced itself
    _cancel_end: Callable[[], None] | None = None
    _heard: set[int] = field(default_factory=set)  # supervisors, by process id, that were heard since the last beat
    _silence: Silence[int] = field(default_factory=Silence)
    _is_listening: bool = False
    _to_warm_up: Frame | None = None  # what the supervisor that is being started is to be told first

    def recover(self) -> None:
        """Look for supervisors of earlier operators: nobody gets a place before each has told whom it has, or is gone.

        To be called once, before the first order.
        """
        self._missing = set(supervisors_of(self.channel))
        if self._missing:
            self._await_the_missing(until=time.monotonic() + _RETURN_SECONDS)

    def _await_the_missing(self, *, until: float) -> None:
        self._missing = {pid for pid in self._missing if is_there(pid)}
        if self._missing and time.monotonic() > until:
            for pid in self._missing:
                kill(pid)  # and the kernel kills its Workers
        if self._missing:
            self.call_later(_LOOK_AGAIN_SECONDS, partial(self._await_the_missing, until=until))
        else:
            self._fill_places()

    def start(self, order: WorkerOrder) -> None:
        """See Engine."""
        self._stay()
        self._workers[order.worker] = _Known(order=order)
        self.places.order(
            order.worker, order.job_id, order.program.needs, lasts=order.serves, comes_first=order.comes_first
        )
        self._fill_places()

    def _fill_places(self) -> None:
        """Start whoever there is room for now."""
        while not self._missing and (place := self.places.place_next()):
            known = self._workers[place.worker]
            if supervisor := self._newest():
                self._send_start(known, supervisor)
            elif not self._is_awaited:
                self._start_supervisor()

    def _newest(self) -> Connection | None:
        """Give the supervisor that starts Workers; one of an earlier version only sees to those that it has."""
        return next((each for each, who in reversed(self._supervisors.items()) if who.serves), None)

    def warm_up(self, order: WorkerOrder, count: int) -> None:
        """See Engine: the supervisor, a Template, and blanks. What is on a GPU would not survive the fork."""
        if self.keep_warm_seconds == 0 or self._missing or order.program.needs.gpus:
            return
        place = Place(worker=order.worker, job_id=order.job_id, needs=order.program.needs, devices=())
        self._to_warm_up = {**self._start_frame(order, place), "type": "warm_up", "count": count}
        if supervisor := self._newest():
            self._send_warm_up(supervisor)
        elif not self._is_awaited:
            self._start_supervisor()

    def _send_warm_up(self, supervisor: Connection) -> None:
        if self._to_warm_up is not None:
            supervisor.send(self._to_warm_up)
            self._to_warm_up = None

    def has_place(self, worker: str) -> bool:
        """See Engine."""
        return self.places.has_place(worker)

    def may_keep(self, job_id: str, *, least: int) -> int | None:
        """See Engine."""
        keeps = self.places.may_keep(job_id, least=least)
        return None if self._missing else keeps  # there may be room when all are found

    def shortage(self, needs: Needs) -> str:
        """See Engine."""
        if self._missing:
            return "those that an earlier operator has started are looked for first"
        return self.places.shortage(needs)

    def stop(self, worker: str, *, at_once: bool) -> None:
        """See Engine."""
        known = self._workers.get(worker)
        if known is None:
            return
        if known.supervisor is None:
            self.places.release(worker)
            # Not at once: who stops several Workers must not hear of the first before it has stopped the last.
            self.call_later(0, partial(self._exited, worker, Exit(status=None, detail="was not started")))
        else:
            known.supervisor.send(write_stop(worker, at_once=at_once))

    def may_return(self) -> bool:
        """See Engine."""
        return bool(self._missing)

    def end_lost(self, worker: str, *, pid: int, process_started_at: float) -> None:
        """See Engine."""
        if worker not in self._workers:
            ending = Exit(status=None, detail="ended while the operator was away", is_charged=False)
            self._when_gone([(pid, process_started_at)], lambda: self.listener.worker_exited(worker, ending))

    def idle(self) -> None:
        """See Engine."""
        if not self._workers and self._cancel_end is None:
            if self.keep_warm_seconds == 0:
                self._end_supervisors()
            else:
                self._cancel_end = self.call_later(self.keep_warm_seconds, self._end_supervisors)

    def end(self) -> None:
        """See Engine."""
        self._end_supervisors()
        pids = [supervisor.pid for supervisor in self._ending.values()]
        pids += [known.pid for known in self._workers.values() if known.pid is not None]
        if self._process is not None:
            pids.append(self._process.pid)
            if self._is_awaited:
                self._process.kill()  # it has not even introduced itself
        deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
        while left := [pid for pid in pids if is_there(pid)]:
            if time.monotonic() > deadline:
                for pid in left:
                    kill(pid)
            time.sleep(_LOOK_AGAIN_SECONDS)
        if self._process is not None:
            self._process.poll()  # ours to reap
        # A supervisor that was killed has cleared up nothing, and maybe no other one has been started since.
        clear_up_for_good(memory_limits(os.environ))

    def _stay(self) -> None:
        if self._cancel_end is not None:
            self._cancel_end()
            self._cancel_end = None

    # The supervisor

    def _start_supervisor(self) -> None:
        name = os.urandom(4).hex()
        script = Path(cortex.worker.__file__).with_name("start.py")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script), "supervisor", str(self.channel), name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._is_awaited = True
        self.call_later(_CONNECT_SECONDS, partial(self._check_supervisor, self._process))

    def _check_supervisor(self, process: subprocess.Popen[bytes]) -> None:
        """Give up on Workers whose supervisor has not come; one that was started after it has its own time."""
        if process is not self._process or not self._is_awaited:
            return
        self._is_awaited = False
        process.kill()
        for worker, known in list(self._workers.items()) if self._newest() is None else []:
            if known.supervisor is None and self.places.has_place(worker):
                self._exited(worker, Exit(status=None, detail=f"could not be started: see `{self.log}`"))

    def _end_supervisors(self) -> None:
        self._stay()
        for supervisor in self._supervisors:
            supervisor.send({"type": "end"})
        self._ending.update(self._supervisors)
        self._supervisors.clear()

    def supervisor_connected(self, connection: Connection, hello: Frame) -> None:
        """A supervisor introduces itself, as it does to every new operator."""
        self._heard.add(hello["pid"])
        beats, serves = hello.get("beats", False), hello.get("serves", False)
        self._supervisors[connection] = _Supervisor(hello["supervisor"], hello["pid"], beats=beats, serves=serves)
        if self._process is not None and self._process.pid == hello["pid"]:
            self._is_awaited = False
        for child in hello["workers"]:
            known = self._workers.setdefault(child["worker"], _Known())
            known.supervisor = connection
            self.places.adopt(read_place(child))
            if child["pid"] is not None:
                self._started(child["worker"], child["pid"])
            if child["exit_status"] is not None:
                self.supervisor_says({"type": "exited", **child})
        if serves:
            self._send_warm_up(connection)
        for worker, known in self._workers.items() if serves else ():
            if known.supervisor is None and self.places.has_place(worker):
                self._send_start(known, connection)
        self._missing.discard(hello["pid"])
        self._fill_places()
        if not self._workers:
            self.idle()
        if not self._is_listening:
            self._is_listening = True
            self.call_later(BEAT_SECONDS, self._listen)

    def _listen(self) -> None:
        """Kill a supervisor that has long been silent; what it leaves is seen to when its connection closes."""
        supervisors = [*self._supervisors.values(), *self._ending.values()]  # who is told to end must hear it
        self._is_listening = bool(supervisors)
        if self._is_listening:
            self.call_later(BEAT_SECONDS, self._listen)
        heard, self._heard = self._heard, set()
        silent = {supervisor.pid for supervisor in supervisors if supervisor.beats} - heard
        for pid in self._silence.look(silent, seconds=self.heartbeat_seconds):
            logger.warning("supervisor pid-%d was silent for %g s and is killed", pid, self.heartbeat_seconds)
            kill(pid)

    def supervisor_says(self, frame: Frame) -> None:
        """A supervisor shows that it lives, or tells what became of a Worker."""
        if frame["type"] == "beat":
            self._heard.add(frame["pid"])
            return
        worker = frame["worker"]
        if worker not in self._workers:
            return
        if frame["type"] == "started":
            self._started(worker, frame["pid"])
        elif frame["type"] == "drained":
            self._drained(worker)
        elif frame["type"] == "exited":
            place = self.places.place_of(worker)
            self._exited(worker, read_exit(frame, mem_limit_bytes=place.needs.mem_bytes if place else None))

    def supervisor_lost(self, connection: Connection) -> None:
        """The supervisor is gone; the kernel kills its Workers. They are gone for sure before anybody hears of it."""
        supervisor = self._supervisors.pop(connection, None) or self._ending.pop(connection, None)
        if supervisor is None:
            return
        lost = {worker: known for worker, known in self._workers.items() if known.supervisor is connection}

        def all_gone() -> None:
            for worker in lost:
                self._exited(worker, LOST_WITH_SUPERVISOR)

        self._when_gone([(supervisor.pid, None), *((known.pid, None) for known in lost.values())], all_gone)

    def _when_gone(self, processes: Sequence[tuple[int | None, float | None]], then: Callable[[], None]) -> None:
        """Kill processes, and go on once they are gone for sure; nobody else waits for that."""
        left = [(pid, started_at) for pid, started_at in processes if pid is not None and is_there(pid, started_at)]
        for pid, _ in left:
            kill(pid)
        if self._process is not None:
            self._process.poll()  # ours to reap
        if left:
            self.call_later(_LOOK_AGAIN_SECONDS, lambda: self._when_gone(left, then))
        else:
            then()

    def _started(self, worker: str, pid: int) -> None:
        known = self._workers[worker]
        known.pid = pid
        if known.supervisor is not None:
            name = (self._supervisors.get(known.supervisor) or self._ending[known.supervisor]).name
            self.listener.worker_started(worker, pid=pid, process_started_at=process_started_at(pid), supervisor=name)

    def _drained(self, worker: str) -> None:
        known = self._workers[worker]
        if not known.is_drained:
            known.is_drained = True
            self.listener.worker_drained(worker)

    def _exited(self, worker: str, ending: Exit) -> None:
        if worker not in self._workers:
            return
        self._drained(worker)
        known = self._workers.pop(worker)
        self.places.release(worker)
        self.listener.worker_exited(worker, ending)
        if known.supervisor is not None:  # not before it is written down: until then, the next operator is to hear it
            known.supervisor.send({"type": "forget", "worker": worker})
        self._fill_places()

    def _send_start(self, known: _Known, supervisor: Connection) -> None:
        if known.order is not None and (place := self.places.place_of(known.order.worker)):
            known.supervisor = supervisor
            supervisor.send(self._start_frame(known.order, place))

    def _start_frame(self, order: WorkerOrder, place: Place) -> Frame:
        env = dict(order.program.env)
        if self.places.devices:  # a Worker that has no GPU of its own must not find those of others
            env[VISIBLE_DEVICES] = ",".join(place.devices)
        return write_start(
            order,
            place,
            channel=self.channel,
            env=env,
            log_limit_bytes=self.log_limit_bytes,
            keep_warm_seconds=self.keep_warm_seconds,
            heartbeat_seconds=self.heartbeat_seconds,
        )
