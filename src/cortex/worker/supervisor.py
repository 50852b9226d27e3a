"""The process that starts Workers, forwards what they print to the Job's log, and knows how each one ended.

It runs no user code. It outlives the operator, so that no exit goes unseen; when no operator comes back in time, it
ends its Workers and itself.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.worker.joblog import BoundedLog
from cortex.worker.link import ORPHAN_SECONDS, connect

_RECONNECT_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 1.0
_READ_BYTES: Final = 1 << 16


@dataclass(slots=True)
class _Child:
    """A Worker process and what is known of it. `exit_status` is as in subprocess: negative for a signal."""

    worker: str
    process: subprocess.Popen[bytes]
    log: BoundedLog
    pipe: int | None
    exit_status: int | None = None
    kill_at: float | None = None
    drained_by: float | None = None

    @property
    def is_over(self) -> bool:
        return self.exit_status is not None and self.pipe is None


@dataclass(slots=True)
class Supervisor:
    """See the module. Single-threaded: the kernel ties Workers to the thread that started them."""

    channel: Path
    name: str
    _children: dict[str, _Child] = field(default_factory=dict)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _link: socket.socket | None = None
    _reader: FrameReader = field(default_factory=FrameReader)
    _wakeups: tuple[socket.socket, socket.socket] | None = None
    _orphan_at: float = 0.0
    _must_end: bool = False

    def run(self) -> None:
        """Serve until the operator says so, or until none comes back."""
        self._watch_child_exits()
        self._orphan_at = time.monotonic() + ORPHAN_SECONDS
        while not self._must_end:
            if self._link is None:
                self._try_to_connect()
            for key, _ in self._selector.select(self._patience()):
                handle: Callable[[], None] = key.data
                handle()
            self._keep_deadlines()
        for child in self._children.values():
            _kill(child)

    def _patience(self) -> float | None:
        """How long nothing can become due."""
        now = time.monotonic()
        due = [at for child in self._children.values() for at in (child.kill_at, child.drained_by) if at is not None]
        if self._link is None:
            due += [now + _RECONNECT_SECONDS, self._orphan_at]
        return max(0.0, min(due) - now) if due else None

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        for child in list(self._children.values()):
            if child.kill_at is not None and now >= child.kill_at and child.exit_status is None:
                child.kill_at = None
                _kill(child)
            if child.drained_by is not None and now >= child.drained_by:
                self._close_pipe(child)  # somebody else, started by the Worker, still holds it
        if self._link is None and now >= self._orphan_at:
            self._must_end = True

    # The operator

    def _try_to_connect(self) -> None:
        try:
            link = connect(self.channel)
            children = [self._describe(child) for child in self._children.values()]
            hello = {"type": "hello", "role": "supervisor", "supervisor": self.name, "pid": os.getpid()}
            link.sendall(encode({**hello, "workers": children}))
        except OSError:
            return
        self._link, self._reader = link, FrameReader()
        self._selector.register(link, selectors.EVENT_READ, self._hear)

    def _describe(self, child: _Child) -> Frame:
        return {
            "worker": child.worker,
            "pid": child.process.pid,
            "exit_status": child.exit_status if child.is_over else None,
        }

    def _tell(self, frame: Frame) -> None:
        """Tell the operator; if it is away, the next `hello` tells the next one."""
        if self._link is not None:
            try:
                self._link.sendall(encode(frame))
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
            self._obey(frame)

    def _obey(self, frame: Frame) -> None:
        kind = frame["type"]
        if kind == "start":
            self._start(frame)
        elif kind == "stop" and (child := self._children.get(frame["worker"])) and child.exit_status is None:
            # In its own time until the grace is over; `at_once` also interrupts what it is doing.
            child.kill_at = time.monotonic() + frame["grace_seconds"]
            if frame["at_once"]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signal.SIGTERM)
        elif kind == "forget":
            self._children.pop(frame["worker"], None)
        elif kind == "end":
            self._must_end = True

    # Workers

    def _start(self, frame: Frame) -> None:
        worker = frame["order"]["worker"]
        log = BoundedLog(Path(frame["log"]), frame["log_limit_bytes"])
        reading, writing = os.pipe()
        order: dict[str, Any] = {**frame["order"], "supervisor_pid": os.getpid()}
        try:
            process = subprocess.Popen(
                _command(frame["python"], Path(frame["order"]["project"])),
                stdin=subprocess.PIPE,
                stdout=writing,
                stderr=writing,
                env=frame["env"],
                cwd=frame["order"]["project"],
                start_new_session=True,
            )
        except OSError as error:
            os.close(reading)
            self._tell({"type": "exited", "worker": worker, "exit_status": 127, "error": str(error)})
            return
        finally:
            os.close(writing)
        child = _Child(worker, process, log, reading)
        self._children[worker] = child
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._forward(child))
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died at once; its exit will tell
                process.stdin.write(json.dumps(order).encode())
                process.stdin.close()
        self._tell({"type": "started", "worker": worker, "pid": process.pid})

    def _forward(self, child: _Child) -> None:
        if child.pipe is None:
            return
        try:
            data = os.read(child.pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if data:
            child.log.write(data)
        else:
            self._close_pipe(child)

    def _close_pipe(self, child: _Child) -> None:
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
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._reap(reading))

    def _reap(self, wakeups: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            wakeups.recv(_READ_BYTES)
        for child in self._children.values():
            if child.exit_status is None and (status := child.process.poll()) is not None:
                child.exit_status = status
                child.kill_at = None
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, signal.SIGKILL)  # what it started and left behind
                child.drained_by = time.monotonic() + _DRAIN_SECONDS
                self._forward_rest(child)
                self._tell_if_over(child)

    def _forward_rest(self, child: _Child) -> None:
        while child.pipe is not None:
            try:
                data = os.read(child.pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._close_pipe(child)
                return
            child.log.write(data)

    def _tell_if_over(self, child: _Child) -> None:
        if child.is_over:
            self._tell({"type": "exited", "worker": child.worker, "exit_status": child.exit_status})


def _command(python: str, project: Path) -> list[str]:
    """Give the command of a Worker; a project's `.env` is for a shell to read, as its users know it."""
    command = [python, "-P", str(Path(__file__).with_name("start.py")), "worker"]
    if (project / ".env").is_file():
        return ["/bin/sh", "-c", 'set -ae; . ./.env; set +ae; exec "$@"', "sh", *command]
    return command


def _kill(child: _Child) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)


def main() -> int:
    """Run as the supervisor that the arguments describe: `supervisor CHANNEL NAME`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Supervisor(channel=Path(sys.argv[2]), name=sys.argv[3]).run()
    return 0
