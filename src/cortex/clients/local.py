"""The operator of `local`: find it, start it in the background, stop it."""

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cortex.domain.errors import OperatorUnreachable, StartRefused
from cortex.operator.keys import FILE_VARIABLE, KEY_VARIABLE
from cortex.storage.files import is_still_at

START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOOPBACK = "127.0.0.1"
PORT = 8888

_LOG_LINES = 20
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningOperator:
    """What a running operator says of itself in its data directory."""

    pid: int
    address: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOperator:
    """The operator of one data directory on this machine.

    A running one holds an exclusive lock on `operator.lock` and describes itself in `operator.json`. Whoever looks,
    starts or stops holds `start.lock` meanwhile: so two commands never start two operators, and a look at the lock
    never keeps an operator that is being started from taking it.
    """

    data_dir: Path
    program: tuple[str, ...] = (sys.executable, "-m", "cortex", "operator")
    ray_address: str | None = None  # of the Ray that is to run its workers

    def find(self) -> RunningOperator | None:
        """Return the running operator, if one runs."""
        if not (self.data_dir / "operator.lock").exists():
            return None
        with self._alone():
            return self._find()

    def start(self) -> tuple[RunningOperator, bool]:
        """Return the running operator, started if none was, and whether this call started it.

        Once this returns, it listens. Raises StartRefused with the end of its log if it cannot start.
        """
        with self._alone():
            running = self._find()
            if running is not None:
                return running, False
            log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
            has_started = self._launch(PORT if _is_free(PORT) else 0)
            if not has_started and self._find() is None and not _is_free(PORT):  # taken by others since we looked
                has_started = self._launch(0)
            running = self._find()  # that of others too: they start one in the foreground without asking for the lock
            if running is None:
                raise StartRefused(
                    f"the operator did not start; its last lines:\n{self._end_of_log(log_start)}",
                    hint=f"all of its log is in {self._log_path}",
                )
            return running, has_started

    def stop(
        self, *, at_once: bool = False, waiting_for: Callable[[str], None] = lambda _: None
    ) -> RunningOperator | None:
        """Stop the running operator and return what ran; once this returns, it is gone. None if none ran.

        It lets batches end within its grace period, unless it is to stop `at_once`; `waiting_for` is told which.
        """
        if not self.data_dir.exists():
            return None
        if at_once and (running := self._find()):  # before the lock, which whoever waits for its end may hold
            _interrupt(running.pid)
        with self._alone():
            running = self._find()
            if running is None:
                return None
            self._end(running.pid, at_once=at_once, waiting_for=waiting_for)
            return running

    def _end(self, pid: int, *, at_once: bool, waiting_for: Callable[[str], None]) -> None:
        """Ask a process to end and wait until it is gone."""
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        deadline, told = time.monotonic() + STOP_SECONDS, False
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if at_once:
                signal.pidfd_send_signal(process, signal.SIGINT)
            while not select.select([process], [], [], _LOOK_SECONDS)[0]:
                note = self._note() or {}
                if not told and "waiting_for" in note:
                    told, deadline = True, deadline + note["waiting_seconds"]
                    waiting_for(note["waiting_for"])
                if time.monotonic() > deadline:
                    raise OperatorUnreachable(
                        f"the operator (pid {pid}) was asked to stop and has not ended in time",
                        hint=f"`kill -9 {pid}` ends it; jobs in progress go on when an operator is started again",
                    )
        except ProcessLookupError:
            return
        finally:
            os.close(process)

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "operator.log"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold `start.lock`, which somebody may have removed with its folder while others waited for it."""
        while True:
            self.data_dir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # `parents` are made without the mode
            self.data_dir.mkdir(mode=0o700, exist_ok=True)
            path = self.data_dir / "start.lock"
            with path.open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if is_still_at(lock.fileno(), path):
                    yield
                    return

    def _find(self) -> RunningOperator | None:
        if not self._is_locked():
            return None
        description = self._note()
        if description is None:
            raise OperatorUnreachable(
                f"the operator of `{self.data_dir}` is just starting or stopping", hint="try again in a moment"
            )
        return RunningOperator(pid=description["pid"], address=description["address"], version=description["version"])

    def _note(self) -> dict[str, Any] | None:
        """Read what an operator says of itself; None where there is nothing, or half of it."""
        try:
            note: dict[str, Any] = json.loads((self.data_dir / "operator.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return note

    def _is_locked(self) -> bool:
        try:
            with (self.data_dir / "operator.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _launch(self, port: int) -> bool:
        """Start an operator that outlives this process; return whether it came to listen."""
        reading, writing = os.pipe()
        options = ["--host", LOOPBACK, "--port", str(port), "--data-dir", str(self.data_dir)]
        if self.ray_address is not None:
            options += ["--engine", "ray", "--ray-address", self.ray_address]
        with open(reading, "rb") as ready:  # noqa: PTH123 - a descriptor has no path
            try:
                with self._log_path.open("ab") as log:
                    process = subprocess.Popen(
                        [*self.program, *options, "--ready-fd", str(writing)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=_without_keys(os.environ),
                        cwd=self.data_dir,  # `-m` imports from here first, and the user's folder may hold a `cortex`
                        pass_fds=(writing,),
                        start_new_session=True,
                    )
            finally:
                os.close(writing)
            has_spoken, _, _ = select.select([ready], [], [], START_SECONDS)
            if has_spoken and ready.readline():  # the end without an address: it has died
                process.returncode = 0  # it is not ours to wait for: it outlives us
                return True
        process.kill()
        process.wait()
        return False

    def _end_of_log(self, start: int) -> str:
        with self._log_path.open("rb") as log:
            log.seek(start)
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_LINES:])


def _without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """Leave keys out: all shells of this user share the operator of `local`, whether they have set one or not."""
    return {name: value for name, value in variables.items() if name not in (KEY_VARIABLE, FILE_VARIABLE)}


def _interrupt(pid: int) -> None:
    """Let an operator wait for nothing: each further signal says so, and two that differ are never one."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the operator does
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
