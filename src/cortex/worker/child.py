"""A Worker, as its supervisor sees it."""

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cortex.domain.batch import Page
from cortex.domain.frame import Frame
from cortex.domain.layout import JobFolder
from cortex.worker.blank import Blank
from cortex.worker.forking import command
from cortex.worker.joblog import WorkerLog
from cortex.worker.page import read_word, write_word


@dataclass(slots=True)
class Child:
    """A Worker and what is known of it. `exit_status` is as in subprocess: negative for a signal."""

    frame: Frame  # what it is to be started with
    log: WorkerLog
    blank: Blank | None = None  # what it was forked as; None for a fresh process, and until it has been forked
    pipe: int | None = None
    pid: int | None = None  # None until there is a process
    is_running: bool = False  # that process is the Worker: a blank is once it has printed
    exit_status: int | None = None
    is_drained: bool = False  # all that it printed is in the log
    error: str | None = None  # why it could not be started
    is_out_of_memory: bool = False
    stopped_seconds: float | None = None  # how long it was stopped, if it was killed for that
    is_to_end: bool = False
    is_interrupted: bool = False
    is_log_full: bool = False  # for our own lines, as it has been told
    kill_at: float | None = None
    drained_by: float | None = None

    @property
    def worker(self) -> str:
        """Its name."""
        return str(self.frame["order"]["worker"])

    @property
    def page(self) -> Path:
        """Its page."""
        return JobFolder(Path(self.frame["order"]["folder"])).page(self.worker)

    @property
    def memory_name(self) -> str:
        """The name by which its memory is known: a blank has got a group before it was this Worker."""
        return self.blank.name if self.blank else self.worker

    @property
    def mem_bytes(self) -> int:
        """How much memory it may use; 0: any."""
        return int(self.frame["place"]["mem_bytes"])

    @property
    def is_blank(self) -> bool:
        """True while its process is not known to have read its order."""
        return self.blank is not None and not self.is_running

    @property
    def is_over(self) -> bool:
        """True once it has ended and all that it printed is in the log."""
        return self.exit_status is not None and self.is_drained

    @property
    def is_limited(self) -> bool:
        """True of one that runs and may use only so much memory."""
        return self.mem_bytes > 0 and self.pid is not None and self.exit_status is None

    def describe(self) -> Frame:
        """Tell an operator how it stands."""
        return {
            "worker": self.worker,
            "pid": self.pid if self.is_running else None,
            "place": self.frame["place"],  # told to every operator, so that nobody else gets it
            "exit_status": self.exit_status if self.is_over else None,
            "out_of_memory": self.is_out_of_memory,
            "stopped_seconds": self.stopped_seconds,
            "error": self.error,
        }

    def interrupt(self) -> None:
        """Send SIGTERM, and say that it is meant; as soon as there is a process."""
        self.is_interrupted = True
        with contextlib.suppress(OSError):  # its Job was removed: then it dies of the SIGKILL that follows
            write_word(self.page, Page.IS_TO_END, 1)
        self.signal(signal.SIGTERM)

    def write_log(self, data: bytes) -> None:
        """Append what it has printed; once our own lines find no room in the log, it need not write them."""
        self.log.write(data)
        if self.log.drops_own_lines and not self.is_log_full:
            self.is_log_full = True
            with contextlib.suppress(OSError):  # its Job was removed
                write_word(self.page, Page.LOG_IS_FULL, 1)

    def close_log(self) -> None:
        """Append what is left, and say what was left out."""
        self.log.close(left_out=read_word(self.page, Page.LINES_LEFT_OUT))

    def kill(self) -> None:
        """Send SIGKILL."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the Worker and to all that it has started."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


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
        process_group=0,  # no session: to each, Linux gives the same share of the CPUs as to the operator
    )
    process.returncode = 0  # it is reaped with all others
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died at once; its exit will tell
            process.stdin.write(json.dumps(order).encode())
            process.stdin.close()
    return process.pid
