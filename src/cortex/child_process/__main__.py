"""The fork server itself: `python -m cortex.child_process LINK PARENT`, started by `fork_server`, which says how.

It has no thread but this one, and opens nothing that its children could share. Modules are imported when the first
child needs them, once for all that come after it; one that has a function `prepare` has it called then.
"""

import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn

from cortex.domain.frame import FrameReader, encode
from cortex.worker.kernel import can_fork, die_with_parent, name_process

_READ_BYTES: Final = 1 << 16
_FDS: Final = 2


def main() -> int:
    """Serve until the operator hangs up; give the exit code."""
    link, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    link.set_inheritable(False)
    name_process("cortex-forks")
    die_with_parent()
    if os.getppid() != parent:
        return 1
    # A service manager sends these to all of its processes: the operator says when it is time.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _Server(link).serve()
    return 0


class _Server:
    """See the module."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._pid = os.getpid()
        self._reader = FrameReader()
        self._calls: dict[int, int] = {}  # by the process that does it
        self._woken, self._waking = socket.socketpair()
        for end in (self._woken, self._waking):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waking.fileno())
        self._selector = selectors.DefaultSelector()
        for end in (self._link, self._woken):
            self._selector.register(end, selectors.EVENT_READ)

    def serve(self) -> None:
        """Do what is asked for, and tell who has ended, until the operator hangs up; then end all children."""
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._woken in ready:
                with suppress(BlockingIOError):
                    self._woken.recv(_READ_BYTES)
                self._reap()
            if self._link in ready and not self._hear():
                break
        for pid in self._calls:
            _kill_group(pid)

    def _hear(self) -> bool:
        """Take one message; False once there are no more."""
        try:
            data, fds, _, _ = socket.recv_fds(self._link, _READ_BYTES, _FDS)
        except ConnectionError:  # the operator has died, and left unread what it was told
            return False
        for frame in self._reader.feed(data):
            self._tell({"type": "taken"})
            if frame["type"] == "fork":
                self._fork(frame, fds)
            else:
                for pid, call in self._calls.items():
                    if call == frame["call"]:
                        _kill_group(pid)
        return bool(data)

    def _fork(self, frame: dict[str, Any], fds: Sequence[int]) -> None:
        module = f"{frame['module']}.__main__"
        _import([module, *frame["imports"]])
        try:
            pid = os.fork() if can_fork() else None
        except OSError:
            pid = None
        if pid == 0:
            self._become(module, frame["action"], fds)
        for file in fds:
            os.close(file)
        if pid is None:
            self._tell({"type": "refused", "call": frame["call"]})
            return
        with suppress(ProcessLookupError, PermissionError):  # it does the same, and one of the two comes first
            os.setpgid(pid, pid)
        self._calls[pid] = frame["call"]

    def _reap(self) -> None:
        while self._calls:
            # It stays a zombie while what it has left is killed: so its number is nobody else's.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            _kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self._tell({"type": "ended", "call": self._calls.pop(ended.si_pid), "status": code})

    def _tell(self, frame: dict[str, Any]) -> None:
        with suppress(OSError):  # the operator is gone, and so is this process soon
            self._link.sendall(encode(frame))

    def _become(self, module: str, action: str, fds: Sequence[int]) -> NoReturn:
        """Be the child, from its first to its last breath, and hold nothing that is the server's."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for held in (self._selector, self._link, self._woken, self._waking):
                held.close()
            os.setpgid(0, 0)
            conversation, log = fds
            for file, stream in ((conversation, 0), (conversation, 1), (log, 2)):
                os.dup2(file, stream)
            for file in fds:
                os.close(file)
            die_with_parent()
            if os.getppid() == self._pid:
                code = import_module(module).main(action)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _import(modules: Sequence[str]) -> None:
    new = [module for module in modules if module not in sys.modules]
    if not new:
        return
    gc.disable()
    for module in new:
        with suppress(Exception):  # the child meets the same, and tells
            prepare = getattr(import_module(module), "prepare", None)
            if prepare is not None:
                prepare()
    gc.enable()
    gc.freeze()  # what is there now stays shared with the children


def _kill_group(pid: int) -> None:
    """Kill a child that is not reaped yet, and every process that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
