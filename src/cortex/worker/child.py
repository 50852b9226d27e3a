"""A Worker, as its supervisor sees it."""

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.worker.forking import Template, command
from cortex.worker.joblog import BoundedLog
from cortex.worker.termination import say_that_it_is_meant


@dataclass(slots=True)
class Child:
    """A Worker and what is known of it. `exit_status` is as in subprocess: negative for a signal."""

    worker: str
    log: BoundedLog
    place: Frame  # what the engine has given it: told to every operator, so that nobody else gets it
    template: Template | None  # None for one that is started as a fresh process
    pipe: int | None
    pid: int | None = None  # None until it has been forked or spawned
    exit_status: int | None = None
    is_out_of_memory: bool = False
    stopped_seconds: float | None = None  # how long it was stopped, if it was killed for that
    page: Path | None = None
    is_interrupted: bool = False
    kill_at: float | None = None
    drained_by: float | None = None

    @property
    def is_over(self) -> bool:
        """True once it has ended and all that it printed is in the log."""
        return self.exit_status is not None and self.pipe is None

    @property
    def is_limited(self) -> bool:
        """True of one that runs and may use only so much memory."""
        return self.place["mem_bytes"] > 0 and self.pid is not None and self.exit_status is None

    def describe(self) -> Frame:
        """Tell an operator how it stands."""
        return {
            "worker": self.worker,
            "pid": self.pid,
            "place": self.place,
            "exit_status": self.exit_status if self.is_over else None,
            "out_of_memory": self.is_out_of_memory,
            "stopped_seconds": self.stopped_seconds,
        }

    def interrupt(self) -> None:
        """Send SIGTERM, and say that it is meant; as soon as there is a process."""
        self.is_interrupted = True
        if self.page is not None:
            with contextlib.suppress(OSError):  # its Job was removed: then it dies of the SIGKILL that follows
                say_that_it_is_meant(self.page)
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the Worker and to all that it has started."""
        if self.pid is None:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            if self.exit_status is None:  # it was forked just now and has no group of its own yet
                os.kill(self.pid, number)


def page_of(frame: Frame) -> Path:
    """Give the page of the Worker that is ordered."""
    return JobFolder(Path(frame["order"]["folder"])).page(frame["order"]["worker"])


def spawn(frame: Frame, pipe: int) -> int:
    """Start a Worker as a fresh process that prints to this pipe; give its process id. Raises OSError."""
    order = frame["order"]
    process = subprocess.Popen(
        command("worker", frame["python"], Path(order["project"])),
        stdin=subprocess.PIPE,
        stdout=pipe,
        stderr=pipe,
        env=frame["env"],
        cwd=order["project"],
        start_new_session=True,
    )
    process.returncode = 0  # it is reaped with all others
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died at once; its exit will tell
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
    return process.pid
