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

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.domain.silence import BEAT_SECONDS
from cortex.worker.child import Child, page_of, spawn
from cortex.worker.forking import State, Template, start_template, template_key
from cortex.worker.joblog import BoundedLog
from cortex.worker.kernel import adopt_orphans, name_process, raise_file_limit
from cortex.worker.link import ORPHAN_SECONDS, connect, offer
from cortex.worker.memory import MemoryLimits, memory_limits
from cortex.worker.stopped import Stopped

_RECONNECT_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0
_CLEAR_UP_SECONDS: Final = 1.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_LOOK_SECONDS: Final = 0.2
"""How often it is looked whether a Worker is over its memory limit."""

_READ_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Supervisor:
    """See the module. Single-threaded: the kernel ties Workers to the thread that started them."""

    channel: Path
    name: str
    memory: MemoryLimits
    _children: dict[str, Child] = field(default_factory=dict)
    _templates: dict[str, Template] = field(default_factory=dict)
    _keep_warm_seconds: float = 0.0
    _heartbeat_seconds: float = 0.0
    _stopped: Stopped = field(default_factory=lambda: Stopped(Path("/proc")))
    _beat_at: float = 0.0
    _unclaimed: dict[int, int] = field(default_factory=dict)  # exit status by pid, of whom no Template has told yet
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _link: socket.socket | None = None
    _reader: FrameReader = field(default_factory=FrameReader)
    _wakeups: tuple[socket.socket, socket.socket] | None = None
    _orphan_at: float = 0.0
    _look_at: float = 0.0
    _is_cleared_up: bool = True
    _must_end: bool = False

    def run(self) -> None:
        """Serve until the operator says so, or until none comes back."""
        self._watch_child_exits()
        self._orphan_at = time.monotonic() + ORPHAN_SECONDS
        while not self._must_end:
            if self._link is None:
                self._try_to_connect()
            for key, _ in self._selector.select(self._patience()):
                self._guard(key.data)
            self._guard(self._keep_deadlines)
        for template in list(self._templates.values()):
            self._end_template(template)
        for child in self._children.values():
            child.signal(signal.SIGKILL)
            if child.is_limited and child.pid is not None:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child.pid, 0)  # its group can be removed when it is gone
            self.memory.dismiss(child.worker)
        deadline = time.monotonic() + _CLEAR_UP_SECONDS
        while not self.memory.clear_up() and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _guard(self, handle: Callable[[], None]) -> None:
        """Handle one event; what fails for one Worker must not end all others."""
        try:
            handle()
        except Exception:
            traceback.print_exc()

    def _patience(self) -> float | None:
        """How long nothing can become due."""
        now = time.monotonic()
        due = [
            child.kill_at for child in self._children.values() if child.kill_at is not None and child.pid is not None
        ]
        due += [child.drained_by for child in self._children.values() if child.drained_by is not None]
        due += [at for at, _ in self._unused_templates()]
        if not self._is_cleared_up or any(each.is_limited for each in self._who_uses_memory()):
            due.append(self._look_at)
        if self._link is not None or any(child.exit_status is None for child in self._children.values()):
            due.append(self._beat_at)
        if self._link is None:
            due += [now + _RECONNECT_SECONDS, self._orphan_at]
        return max(0.0, min(due) - now) if due else None

    def _end_if_alone(self, *_: object) -> None:
        """Leave SIGTERM to the operator: where all processes of a service get it, Workers finish what they are in."""
        self._must_end |= self._link is None

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.kill_at is not None and now >= child.kill_at and child.pid is not None:
                child.kill_at = None
                child.signal(signal.SIGKILL)
            if child.drained_by is not None and now >= child.drained_by:
                self._close_pipe(child)  # somebody else, started by the Worker, still holds it
        for at, template in self._unused_templates():
            if now >= at:
                self._end_template(template)
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._end_who_is_over_limit()
            self._is_cleared_up = self.memory.clear_up()
        if now >= self._beat_at:
            self._beat_at = now + BEAT_SECONDS
            self._beat()
            self._end_who_is_stopped()
        if self._link is None and now >= self._orphan_at:
            self._must_end = True

    def _end_who_is_over_limit(self) -> None:
        children = {child.worker: child.pid for child in self._children.values() if child.is_limited and child.pid}
        templates = {each.name: each for each in self._templates.values() if each.is_limited}
        limited = children | {name: template.process.pid for name, template in templates.items()}
        for name in self.memory.over_limit(limited) if limited else []:
            # The Workers of a Template become fresh processes, of which each tells what befell it.
            (templates.get(name) or self._children[name]).kill()

    def _end_who_is_stopped(self) -> None:
        """Kill who is not let go on in time: a Worker must not hold its Lease, or a Template its Workers, for ever."""
        templates = {each.name: each for each in self._templates.values() if each.link.fileno() >= 0}
        pids = {child.worker: child.pid for child in self._children.values() if child.pid and child.exit_status is None}
        for name in self._stopped.look_for_dead(pids):
            self._exited(self._children[name], -signal.SIGKILL)
        pids |= {name: template.process.pid for name, template in templates.items()}
        for name in self._stopped.look(pids, seconds=self._heartbeat_seconds):
            for worker in templates[name].in_fork if name in templates else [name]:
                self._children[worker].stopped_seconds = self._heartbeat_seconds
            (templates.get(name) or self._children[name]).kill()

    def _who_uses_memory(self) -> list[Child | Template]:
        return [*self._children.values(), *self._templates.values()]

    # The operator

    def _try_to_connect(self) -> None:
        try:
            link = connect(self.channel)
            children = [child.describe() for child in self._children.values()]
            hello = {"type": "hello", "role": "supervisor", "supervisor": self.name, "pid": os.getpid(), "beats": True}
            link.sendall(encode({**hello, "workers": children}))
        except OSError:
            return
        self._link, self._reader = link, FrameReader()
        self._selector.register(link, selectors.EVENT_READ, self._hear)

    def _tell(self, frame: Frame) -> None:
        """Tell the operator; if it is away, the next `hello` tells the next one."""
        if self._link is not None:
            try:
                self._link.sendall(encode(frame))
            except OSError:
                self._lose_operator()

    def _beat(self) -> None:
        """Show the operator that this process lives."""
        if self._link is not None:
            try:
                offer(self._link, {"type": "beat", "pid": os.getpid()})
            except OSError:
                self._lose_operator()

    def _lose_operator(self) -> None:
        if self._link is not None:
            self._selector.unregister(self._link)
            self._link.close()
            self._link = None
            self._orphan_at = time.monotonic() + ORPHAN_SECONDS

    def _hear(self) -> None:
        try:
            data = self._link.recv(_READ_BYTES) if self._link else b""
        except OSError:
            data = b""
        if not data:
            self._lose_operator()
            return
        for frame in self._reader.feed(data):
            self._guard(partial(self._obey, frame))

    def _obey(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "start":
            self._start(frame)
        elif kind == "stop" and (child := self._children.get(frame["worker"])) and child.exit_status is None:
            self._stop(child, frame["grace_seconds"], at_once=frame["at_once"])
        elif kind == "forget":
            self._children.pop(frame["worker"], None)
        elif kind == "end":
            self._must_end = True

    # Workers

    def _start(self, frame: Frame) -> None:
        self._keep_warm_seconds = frame["keep_warm_seconds"]
        self._heartbeat_seconds = frame["heartbeat_seconds"]
        frame["order"]["supervisor_pid"] = os.getpid()
        worker = frame["order"]["worker"]
        place = frame["place"]
        try:
            # What is on a GPU does not survive a fork, so a Worker that has one is a fresh process from the start.
            template = None if place["devices"] else self._template(frame)
            log = BoundedLog(Path(frame["log"]), frame["log_limit_bytes"])
            frame["order"]["memory_group"] = (
                self.memory.admit(worker, place["mem_bytes"]) if place["mem_bytes"] else None
            )
            reading, writing = os.pipe()
        except OSError as error:
            self.memory.dismiss(worker)
            self._tell({"type": "exited", "worker": worker, "exit_status": 127, "error": f"could not start: {error}"})
            return
        os.set_blocking(reading, False)
        child = self._children[worker] = Child(worker, log, place, template, reading, page=page_of(frame))
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._forward(child))
        if template is None:
            try:
                self._spawn(frame, writing)
            finally:
                os.close(writing)
        else:
            template.start(frame, writing)

    def _template(self, frame: Frame) -> Template:
        key = template_key(frame)
        if key not in self._templates:
            name, mem_bytes = f"template-{os.urandom(4).hex()}", frame["place"]["mem_bytes"]
            group = self.memory.admit(name, mem_bytes) if mem_bytes else None
            try:
                template = start_template(
                    frame, name=name, memory_group=group, forked=self._runs, spawn=self._spawn, lost=self._lost
                )
            except OSError:
                self.memory.dismiss(name)
                raise
            self._templates[key] = template
            self._selector.register(template.link, selectors.EVENT_READ, lambda: self._hear_template(template))
        return self._templates[key]

    def _hear_template(self, template: Template) -> None:
        if template.link.fileno() >= 0 and not template.hear():  # it may have been ended in this very round
            self._close_template(template)
        if not self._is_any_forking():
            self._unclaimed.clear()

    def _unused_templates(self) -> list[tuple[float, Template]]:
        """Give the Templates that no Worker needs, each with when it is to end."""
        templates = self._templates.values()
        return [(at + self._keep_warm_seconds, each) for each in templates if (at := each.unused_since) is not None]

    def _is_any_forking(self) -> bool:
        return any(template.in_fork for template in self._templates.values())

    def _end_template(self, template: Template) -> None:
        self._templates = {key: other for key, other in self._templates.items() if other is not template}
        self._close_template(template)

    def _close_template(self, template: Template) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it has hung up already
            self._selector.unregister(template.link)
        template.end()
        self.memory.dismiss(template.name)
        self._is_cleared_up = self.memory.clear_up()

    def _spawn(self, frame: Frame, pipe: int) -> None:
        """Start a Worker as a fresh process."""
        worker = frame["order"]["worker"]
        try:
            pid = spawn(frame, pipe)
        except OSError as error:
            print(f"a worker could not be started: {error}", file=sys.stderr)  # noqa: T201 - the supervisor's log
            self._lost(worker)
        else:
            self._runs(worker, pid)

    def _lost(self, worker: str) -> None:
        """A Worker could not be started, or its Template has died before it could tell: it gets no Lease."""
        if child := self._children.get(worker):
            self._exited(child, 127)

    def _runs(self, worker: str, pid: int) -> None:
        child = self._children.get(worker)
        if child is None or child.exit_status is not None:
            return
        child.pid = pid
        if child.is_interrupted:  # it was stopped while it was being forked
            child.interrupt()
        self._tell({"type": "started", "worker": worker, "pid": pid})
        if pid in self._unclaimed:
            self._exited(child, self._unclaimed.pop(pid))

    def _stop(self, child: Child, grace_seconds: float, *, at_once: bool) -> None:
        """Let a Worker end in its own time until the grace is over; `at_once` also interrupts what it is doing."""
        template = child.template
        if child.pid is None and template is not None and template.withdraw(child.worker):
            self._exited(child, 0)
            if not template.waiting and template.state is State.IMPORTING:
                self._end_template(template)  # nobody waits for an import that may never end
            return
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
            child.log.write(data)
        else:
            self._close_pipe(child)
        return bool(data)

    def _close_pipe(self, child: Child) -> None:
        child.drained_by = None
        if child.pipe is None:
            return
        self._selector.unregister(child.pipe)
        os.close(child.pipe)
        child.pipe = None
        child.log.close()
        self._tell({"type": "drained", "worker": child.worker})
        self._tell_if_over(child)

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
        by_pid = {child.pid: child for child in self._children.values() if child.exit_status is None}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found[0], os.waitstatus_to_exitcode(found[1])
                if pid in by_pid:
                    self._exited(by_pid[pid], status)
                elif self._is_any_forking():
                    self._unclaimed[pid] = status

    def _exited(self, child: Child, status: int) -> None:
        child.exit_status = status
        child.kill_at = None
        child.signal(signal.SIGKILL)  # what it started and left behind
        child.is_out_of_memory = status != 0 and self.memory.has_run_out(child.worker)
        self.memory.dismiss(child.worker)
        self._is_cleared_up = self.memory.clear_up()
        if child.template is not None:
            child.template.forget(child.worker)
        child.drained_by = time.monotonic() + _DRAIN_SECONDS
        while self._forward(child):
            continue
        self._tell_if_over(child)

    def _tell_if_over(self, child: Child) -> None:
        if child.is_over:
            self._tell({"type": "exited", **child.describe()})


def main() -> int:
    """Run as the supervisor that the arguments describe: `supervisor CHANNEL NAME`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("cortex-superv")
    raise_file_limit()
    adopt_orphans()  # Workers are forked by Templates, but ours to see die
    Supervisor(channel=Path(sys.argv[2]), name=sys.argv[3], memory=memory_limits(os.environ)).run()
    return 0
