"""The process that starts Workers, forwards what they print to the Job's log, and knows how each one ended.

It runs no user code. It outlives the operator, so that no exit goes unseen; when no operator comes back in time, it
ends its Workers and itself.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame
from cortex.domain.silence import BEAT_SECONDS
from cortex.worker.blank import Blank
from cortex.worker.child import Child, spawn
from cortex.worker.joblog import open_log
from cortex.worker.kernel import adopt_orphans, die_with_parent, name_process, raise_file_limit
from cortex.worker.memory import MemoryLimits, clear_up_for_good, memory_limits
from cortex.worker.reports import RECONNECT_SECONDS, Reports
from cortex.worker.stopped import Stopped
from cortex.worker.templates import Templates, Workers

_DRAIN_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.2
"""How often it is looked whether a Worker is over its memory limit."""

_READ_BYTES: Final = 1 << 16
_MOST_IN_PIPE: Final = 1 << 20
_WITHOUT_PARENT: Final = 4
"""So many arguments."""


@dataclass(slots=True)
class Supervisor(Workers):
    """See the module. Single-threaded: the kernel ties Workers to the thread that started them."""

    channel: Path
    name: str
    memory: MemoryLimits
    _children: dict[str, Child] = field(default_factory=dict)
    _templates: Templates = field(init=False)
    _reports: Reports = field(init=False)
    _heartbeat_seconds: float = 0.0
    _stopped: Stopped = field(default_factory=lambda: Stopped(Path("/proc")))
    _beat_at: float = 0.0
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _wakeups: tuple[socket.socket, socket.socket] | None = None
    _look_at: float = 0.0
    _is_cleared_up: bool = True
    _must_end: bool = False

    def __post_init__(self) -> None:
        """Begin without any Template, and without an operator."""
        self._templates = Templates(self._selector, self.memory, self)
        self._reports = Reports(
            self.channel, self._selector, self._hello, lambda frame: self._guard(partial(self._obey, frame))
        )

    def run(self) -> None:
        """Serve until the operator says so, or until none comes back."""
        self._watch_child_exits()
        while not self._must_end:
            if self._reports.is_alone:
                self._reports.try_to_connect()
            due_at = self._due_at()
            patience = None if due_at is None else max(0.0, due_at - time.monotonic())
            for key, _ in self._selector.select(patience):
                self._guard(key.data)
            if due_at is not None and time.monotonic() >= due_at:
                self._guard(self._keep_deadlines)
        self._templates.end_all()
        for child in self._children.values():
            child.signal(signal.SIGKILL)
            if child.is_limited and child.pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, 0)  # its group can be removed when it is gone
            self.memory.dismiss(child.memory_name)
        clear_up_for_good(self.memory)

    def _guard(self, handle: Callable[[], None]) -> None:
        """Handle one event; what fails for one Worker must not end all others."""
        try:
            handle()
        except Exception:
            traceback.print_exc()

    def _due_at(self) -> float | None:
        """Give when something is due, if nothing happens before."""
        due = [
            child.kill_at for child in self._children.values() if child.kill_at is not None and child.pid is not None
        ]
        due += [child.drained_by for child in self._children.values() if child.drained_by is not None]
        due += self._templates.due()
        if not self._is_cleared_up or self._limited():
            due.append(self._look_at)
        if not self._reports.is_alone or any(child.exit_status is None for child in self._children.values()):
            due.append(self._beat_at)
        if self._reports.is_alone:
            due += [time.monotonic() + RECONNECT_SECONDS, self._reports.orphan_at]
        return min(due) if due else None

    def _end_if_alone(self, *_: object) -> None:
        """Leave SIGTERM to the operator: where all processes of a service get it, Workers finish what they are in."""
        self._must_end |= self._reports.is_alone

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.kill_at is not None and now >= child.kill_at and child.pid is not None:
                child.kill_at = None
                child.signal(signal.SIGKILL)
            if child.drained_by is not None and now >= child.drained_by:
                self._drained(child)  # somebody else, started by the Worker, still holds it
        self._templates.end_unused(now)
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._end_who_is_over_limit()
        self._is_cleared_up = self.memory.clear_up()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._reports.beat()
            self._end_who_is_stopped()
        if self._reports.is_alone and now >= self._reports.orphan_at:
            self._must_end = True

    def _limited(self) -> dict[str, int]:
        """Give who may use only so much memory, by the names by which their memory is known."""
        children = self._children.values()
        return {each.memory_name: each.pid for each in children if each.is_limited and each.pid is not None} | (
            self._templates.limited()
        )

    def _end_who_is_over_limit(self) -> None:
        limited = self._limited()
        over = set(self.memory.over_limit(limited)) if limited else set()
        for child in self._children.values() if over else []:
            if child.memory_name in over:
                child.kill()
        for name in over:
            self._templates.kill(name)  # its Workers become fresh processes, of which each tells what befell it

    def _end_who_is_stopped(self) -> None:
        """Kill who is not let go on in time: a Worker must not hold its Lease, or a Template its Workers, for ever."""
        pids = {child.worker: child.pid for child in self._children.values() if child.pid and child.exit_status is None}
        for name in self._stopped.look_for_dead(pids):
            self._died(self._children[name], -signal.SIGKILL)
        for name in self._stopped.look(pids | self._templates.pids(), seconds=self._heartbeat_seconds):
            if child := self._children.get(name):
                child.stopped_seconds = self._heartbeat_seconds
                child.kill()
            else:
                self._templates.kill(name)

    # The operator

    def _hello(self) -> Frame:
        children = [child.describe() for child in self._children.values()]
        who = {"type": "hello", "role": "supervisor", "supervisor": self.name, "pid": os.getpid()}
        return {**who, "beats": True, "serves": True, "workers": children}

    def _obey(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "start":
            self._start(frame)
        elif kind == "warm_up":
            self._warm_up(frame)
        elif kind == "stop" and (child := self._children.get(frame["worker"])) and child.exit_status is None:
            self._stop(child, frame["grace_seconds"], at_once=frame["at_once"])
        elif kind == "forget":
            self._children.pop(frame["worker"], None)
        elif kind == "end":
            self._must_end = True

    # Workers

    def _accept(self, frame: Frame) -> None:
        self._templates.keep_warm_seconds = frame["keep_warm_seconds"]
        self._heartbeat_seconds = frame["heartbeat_seconds"]
        frame["order"].update(supervisor_pid=os.getpid(), memory_group=None)

    def _warm_up(self, frame: Frame) -> None:
        self._accept(frame)
        with contextlib.suppress(OSError):  # then the first order meets the same, and that is told
            self._templates.warm_up(frame, frame["count"])

    def _start(self, frame: Frame) -> None:
        self._accept(frame)
        worker = frame["order"]["worker"]
        try:
            log = open_log(Path(frame["log"]), frame["log_limit_bytes"], rotates=frame.get("log_rotates", False))
        except OSError as error:
            self._reports.tell(
                {"type": "exited", "worker": worker, "exit_status": 127, "error": f"could not start: {error}"}
            )
            return
        child = self._children[worker] = Child(frame, log)
        try:
            # What is on a GPU does not survive a fork, so a Worker that has one is a fresh process from the start.
            # Where there will be one Worker only, a Template is of no use.
            if frame["place"]["devices"] or frame.get("is_only_one"):
                self.start_fresh(worker)
            else:
                self._templates.start(frame)
        except OSError as error:
            self._could_not_start(child, error)

    def start_fresh(self, worker: str) -> None:
        """See Workers."""
        child = self._children[worker]
        try:
            if child.mem_bytes:
                child.frame["order"]["memory_group"] = self.memory.admit(worker, child.mem_bytes)
            reading, writing = os.pipe()
            try:
                os.set_blocking(reading, False)
                self._listen_to(child, reading)
                child.pid = spawn(child.frame, writing)
            finally:
                os.close(writing)
        except OSError as error:
            self._could_not_start(child, error)
        else:
            self._runs(child)

    def _could_not_start(self, child: Child, error: OSError) -> None:
        print(f"a worker could not be started: {error}", file=sys.stderr)  # noqa: T201 - the supervisor's log
        child.error = f"could not start: {error}"
        self._exited(child, 127)

    def _listen_to(self, child: Child, pipe: int) -> None:
        child.pipe = pipe
        # Twice: often it has said its last word.
        self._selector.register(pipe, selectors.EVENT_READ, lambda: self._forward(child) and self._forward(child))

    def log_import(self, worker: str, printed: bytes) -> None:
        """See Workers."""
        self._children[worker].write_log(printed)

    def give_blank(self, worker: str, blank: Blank) -> None:
        """See Workers."""
        child = self._children[worker]
        child.blank, child.pid = blank, blank.pid
        self._listen_to(child, blank.pipe)

    def blank_born(self, worker: str) -> None:
        """See Workers."""
        child = self._children[worker]
        if child.blank is not None:
            child.pid = child.blank.pid
        if child.is_interrupted:  # it was stopped while it was being forked
            child.interrupt()

    def lose_blank(self, worker: str) -> None:
        """See Workers. Who is to end need not begin."""
        child = self._children[worker]
        if child.is_to_end:
            self._exited(child, 0)
            return
        if child.blank is not None:
            self.memory.dismiss(child.blank.name)
        self._hang_up(child)
        child.blank = child.pid = child.stopped_seconds = None
        self.start_fresh(worker)

    def _runs(self, child: Child) -> None:
        child.is_running = True
        self._reports.tell({"type": "started", "worker": child.worker, "pid": child.pid})

    def _stop(self, child: Child, grace_seconds: float, *, at_once: bool) -> None:
        """Let a Worker end in its own time until the grace is over; `at_once` also interrupts what it is doing."""
        if child.pid is None and self._templates.withdraw(child.worker):
            self._exited(child, 0)
            return
        child.is_to_end = True
        child.kill_at = time.monotonic() + grace_seconds
        if at_once:
            child.interrupt()

    def _forward(self, child: Child) -> bool:
        """Forward some of what a Worker has printed; False when there is nothing more for now, or ever."""
        if child.pipe is None:
            return False
        try:
            data = os.read(child.pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        if data:
            if child.is_blank:
                self._runs(child)
            child.write_log(data)
        elif child.is_blank:
            self._hang_up(child)  # its death will tell
        else:
            self._drained(child)
        return bool(data)

    def _drained(self, child: Child) -> None:
        """Whatever a Worker will be heard to have printed is in the log."""
        child.drained_by = None
        if child.is_drained:
            return
        child.is_drained = True
        self._hang_up(child)
        child.close_log()
        self._reports.tell({"type": "drained", "worker": child.worker})
        self._tell_if_over(child)
        self._templates.rest(child.worker)

    def _hang_up(self, child: Child) -> None:
        if child.pipe is not None:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = None

    def _watch_child_exits(self) -> None:
        reading, writing = self._wakeups = socket.socketpair()
        for end in self._wakeups:
            end.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end_if_alone)
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._reap(reading))

    def _reap(self, wakeups: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wakeups.recv(_READ_BYTES)
        statuses: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                statuses[found[0]] = os.waitstatus_to_exitcode(found[1])
        self._templates.hear_unborn()
        by_pid = {child.pid: child for child in self._children.values() if child.exit_status is None}
        for pid, status in statuses.items():
            if pid in by_pid:
                self._guard(partial(self._died, by_pid[pid], status))
            else:
                self._templates.died(pid)

    def _died(self, child: Child, status: int) -> None:
        """A process has died; unless it was a blank that has not printed anything, it was this Worker."""
        if child.is_blank:
            self._forward(child)  # it may have printed just before
        if child.is_blank:
            self.lose_blank(child.worker)
        else:
            self._exited(child, status)

    def _exited(self, child: Child, status: int) -> None:
        was_drained = child.is_drained
        child.exit_status = status
        child.kill_at = None
        child.signal(signal.SIGKILL)  # what it started and left behind
        child.is_out_of_memory = status != 0 and self.memory.has_run_out(child.memory_name)
        self.memory.dismiss(child.memory_name)
        child.drained_by = time.monotonic() + _DRAIN_SECONDS
        for _ in range(_MOST_IN_PIPE // _READ_BYTES):  # whoever has printed more than that is somebody else
            if not self._forward(child):
                break
        if child.pipe is None:
            self._drained(child)
        if was_drained:
            self._tell_if_over(child)
        self._templates.rest(child.worker)
        self._templates.forget(child.worker)

    def _tell_if_over(self, child: Child) -> None:
        if child.is_over:
            self._reports.tell({"type": "exited", **child.describe()})


def main() -> int:
    """Run as the supervisor that the arguments describe: `supervisor CHANNEL NAME [PARENT]`.

    With the process id of its parent, it ends when that does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if len(sys.argv) > _WITHOUT_PARENT:
        die_with_parent()
        if os.getppid() != int(sys.argv[_WITHOUT_PARENT]):
            return 0
    name_process("cortex-superv")
    raise_file_limit()
    adopt_orphans()  # Workers are forked by Templates, but ours to see die
    Supervisor(channel=Path(sys.argv[2]), name=sys.argv[3], memory=memory_limits(os.environ)).run()
    return 0
