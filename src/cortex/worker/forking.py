"""Templates, as their supervisor sees them: each is a process of its own, from which Workers of one kind are forked.

A Template is asked for blanks (see worker.blank), and answers nothing: each blank speaks for itself.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.worker.blank import Blank

_READ_BYTES: Final = 1 << 16
_PER_JOB: Final = frozenset({"CORTEX_JOB_ID", "CORTEX_API_KEY"})
_MOST_UNBORN: Final = 64
"""So many blanks may be asked for and not born yet: there must be room for what is asked of a Template that is busy."""


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
    GONE = auto()  # it has died, and another one may be of use


@dataclass(slots=True, eq=False)
class Template:
    """One Template, its blanks, and the Workers that are to be forked from it."""

    key: str  # what its Workers have in common
    name: str  # by which its memory is known
    mem_bytes: int  # that it may use, as each of its Workers may beside it; 0: any
    process: subprocess.Popen[bytes]
    link: socket.socket
    state: State = State.IMPORTING
    printed: int | None = None  # the file of what the import prints, until a log has it
    waiting: list[Frame] = field(default_factory=list)  # orders of Workers
    workers: set[str] = field(default_factory=set)  # that were started for it and are not over
    at_work: set[str] = field(default_factory=set)  # those of them that may still print
    most_at_work: int = 0  # at once, since the last time that none was
    unused_since: float | None = None
    idle: list[Blank] = field(default_factory=list)  # that have no order
    unborn: set[Blank] = field(default_factory=set)  # of these, and of those that have one
    _reader: FrameReader = field(default_factory=FrameReader)

    @property
    def is_there(self) -> bool:
        """True until it has hung up, or was ended."""
        return self.link.fileno() >= 0

    @property
    def has_hands_full(self) -> bool:
        """True while no further blank should be asked for."""
        return len(self.unborn) >= _MOST_UNBORN

    def hear(self) -> bool:
        """Take what the process says; False once it has hung up."""
        try:
            data = self.link.recv(_READ_BYTES)
        except OSError:
            data = b""
        for frame in self._reader.feed(data):
            self.state = State.FORKING if frame["can_fork"] else State.OF_NO_USE
        if not data:
            self.state = State.OF_NO_USE if self.state is State.IMPORTING else State.GONE
        return bool(data)

    def ask_for(self, memory_group: str | None, link: socket.socket, pipe: int) -> None:
        """Ask for a blank that has this socket and this pipe, in a memory group. Raises OSError if it is gone."""
        frame = encode({"type": "fork", "memory_group": memory_group})
        try:
            socket.send_fds(self.link, [frame], [link.fileno(), pipe])  # not in part: so little always has room
        except OSError:
            self.state = State.GONE
            raise

    def kill(self) -> None:
        """Send the process SIGKILL; that it hangs up tells the rest."""
        self.process.kill()

    def end(self) -> None:
        """End the process and what the import has started; the Workers that it has forked live on. May be repeated."""
        if self.is_there:  # once: later the number may be another's
            self.link.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        if self.printed is not None:
            os.close(self.printed)
            self.printed = None


def template_key(frame: Frame) -> str:
    """Name what Workers must have in common to be forked from one Template."""
    order = frame["order"]
    env = {name: value for name, value in frame["env"].items() if name not in _PER_JOB}
    what = [frame["python"], order["project"], order["predictor_path"], order["python_path"], env]
    return json.dumps([*what, frame["place"]["mem_bytes"], predictor_type(order)])


def predictor_type(order: Frame) -> str:
    """Give the type of the predictor; an earlier operator knows of one only."""
    return str(order.get("predictor_type", "python"))


def start_template(frame: Frame, *, key: str, name: str, memory_group: str | None) -> Template:
    """Start a Template for Workers of this kind. Raises OSError."""
    order = frame["order"]
    setup = {what: order[what] for what in ("project", "predictor_path", "python_path", "supervisor_pid")}
    setup.update(predictor_type=predictor_type(order), memory_group=memory_group)
    printed = _nameless_file(Path(order["folder"], name))
    try:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    command("template", frame["python"], Path(order["project"]), json.dumps(setup)),
                    stdin=theirs.fileno(),
                    stdout=printed,
                    stderr=printed,
                    env={variable: value for variable, value in frame["env"].items() if variable not in _PER_JOB},
                    cwd=order["project"],
                    process_group=0,
                )
            except OSError:
                ours.close()
                raise
    except OSError:
        os.close(printed)
        raise
    return Template(key, name, frame["place"]["mem_bytes"], process, ours, printed=printed)


def _nameless_file(path: Path) -> int:
    """Open a file that is gone when nobody has it open any more. Raises OSError."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    path.unlink()
    return file
