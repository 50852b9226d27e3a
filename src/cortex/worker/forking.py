"""Templates, as their supervisor sees them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame, FrameReader, encode

_READ_BYTES: Final = 1 << 16
_PER_JOB: Final = frozenset({"CORTEX_JOB_ID", "CORTEX_API_KEY"})


def command(role: str, python: str, project: Path, *arguments: str) -> list[str]:
    """Give the command of a process in a user's environment; its `.env` is for a shell to read, as users know it."""
    python_command = [python, "-P", str(Path(__file__).with_name("start.py")), role, *arguments]
    if (project / ".env").is_file():
        return ["/bin/sh", "-c", 'set -ae; . ./.env; set +ae; exec "$@"', "sh", *python_command]
    return python_command


class State(Enum):
    """How far a Template is."""

    IMPORTING = auto()
    FORKING = auto()
    OF_NO_USE = auto()  # Workers of this kind are started as fresh processes


@dataclass(slots=True)
class Template:
    """One Template, and the Workers that wait for it: each with its order and the pipe that it prints to."""

    name: str  # by which its memory is known
    mem_bytes: int  # that it may use, as each of its Workers may beside it; 0: any
    process: subprocess.Popen[bytes]
    link: socket.socket
    forked: Callable[[str, int], None]
    spawn: Callable[[Frame, int], None]
    lost: Callable[[str], None]  # whether this Worker was forked nobody will ever know
    state: State = State.IMPORTING
    waiting: list[tuple[Frame, int]] = field(default_factory=list)
    workers: set[str] = field(default_factory=set)  # that were started for it and are not over
    unused_since: float | None = None
    in_fork: set[str] = field(default_factory=set)  # Workers whose order it has not answered yet
    _reader: FrameReader = field(default_factory=FrameReader)

    def start(self, frame: Frame, pipe: int) -> None:
        """Start a Worker as soon, and in the way, that is possible."""
        self.workers.add(frame["order"]["worker"])
        self.unused_since = None
        self.waiting.append((frame, pipe))
        self._serve()

    def withdraw(self, worker: str) -> bool:
        """Start this Worker no more; False if it has been started."""
        for entry in self.waiting:
            if entry[0]["order"]["worker"] == worker:
                self.waiting.remove(entry)
                os.close(entry[1])
                return True
        return False

    def forget(self, worker: str) -> None:
        """A Worker is over."""
        self.workers.discard(worker)
        if not self.workers:
            self.unused_since = time.monotonic()

    def hear(self) -> bool:
        """Take what the process says; False once it has hung up."""
        try:
            data = self.link.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self.state = State.OF_NO_USE
            for worker in list(self.in_fork):
                self.in_fork.discard(worker)
                self.lost(worker)
        for frame in self._reader.feed(data):
            if frame["type"] == "forked":
                self.in_fork.discard(frame["worker"])
                self.forked(frame["worker"], frame["pid"])
            else:
                self.state = State.FORKING if frame["can_fork"] else State.OF_NO_USE
        self._serve()
        return bool(data)

    @property
    def is_limited(self) -> bool:
        """True of one that runs and may use only so much memory."""
        return self.mem_bytes > 0 and self.link.fileno() >= 0

    def kill(self) -> None:
        """Send the process SIGKILL; that it hangs up tells the rest."""
        self.process.kill()

    def end(self) -> None:
        """End the process and what the import has started; the Workers that it has forked live on. May be repeated."""
        if self.link.fileno() >= 0:  # once: later the number may be another's
            self.link.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _serve(self) -> None:
        while self.waiting and self.state is not State.IMPORTING:
            frame, pipe = self.waiting.pop(0)
            try:
                if self.state is State.FORKING:
                    self._fork(frame, pipe)
                else:
                    self.spawn(frame, pipe)
            finally:
                os.close(pipe)

    def _fork(self, frame: Frame, pipe: int) -> None:
        order = encode({"type": "fork", "order": frame["order"]})
        try:
            socket.send_fds(self.link, [order[:1]], [pipe])
            self.link.sendall(order[1:])
        except OSError:
            self.state = State.OF_NO_USE
            self.spawn(frame, pipe)
        else:
            self.in_fork.add(frame["order"]["worker"])


def template_key(frame: Frame) -> str:
    """Name what Workers must have in common to be forked from one Template."""
    order = frame["order"]
    env = {name: value for name, value in frame["env"].items() if name not in _PER_JOB}
    what = [frame["python"], order["project"], order["predictor_path"], order["python_path"], env]
    return json.dumps([*what, frame["place"]["mem_bytes"]])


def start_template(
    frame: Frame,
    *,
    name: str,
    memory_group: str | None,
    forked: Callable[[str, int], None],
    spawn: Callable[[Frame, int], None],
    lost: Callable[[str], None],
) -> Template:
    """Start a Template for Workers of this kind. Raises OSError."""
    order = frame["order"]
    setup = {what: order[what] for what in ("project", "predictor_path", "python_path")}
    setup["memory_group"] = memory_group
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            command("template", frame["python"], Path(order["project"]), json.dumps(setup)),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={variable: value for variable, value in frame["env"].items() if variable not in _PER_JOB},
            cwd=order["project"],
            start_new_session=True,
        )
    return Template(name, frame["place"]["mem_bytes"], process, ours, forked, spawn, lost)
