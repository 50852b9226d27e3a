"""The process of a bridge, as the operator has it: started, spoken with, ended."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame, FrameReader, encode

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 262144
_MOST_LOG_BYTES: Final = 10 * 10**6
_RECONNECT_VARIABLE: Final = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RECONNECT_SECONDS: Final = 10


class BridgeProcess:
    """A bridge that was started; it dies with the operator.

    `hear` is called in the loop with each frame that it says, `lost` once when it has ended, not after `end`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        log: Path,
        hear: Callable[[Frame], None],
        lost: Callable[["BridgeProcess"], None],
    ) -> None:
        self._loop = loop
        self._hear = hear
        self._lost = lost
        self._reader = FrameReader()
        self._unsent = bytearray()
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        mode = "wb" if log.exists() and log.stat().st_size > _MOST_LOG_BYTES else "ab"
        with theirs, log.open(mode) as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cortex.engines.ray.bridge", str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env=variables(os.environ, Path.home()),
                cwd=log.parent,
                start_new_session=True,  # a Ctrl-C is for the operator
            )
        loop.add_reader(self._channel, self._read)

    def send(self, frame: Frame) -> None:
        """Tell it something; it is lost if the bridge has ended."""
        was_empty = not self._unsent
        self._unsent += encode(frame)
        if was_empty:
            self._flush()
            if self._unsent:
                self._loop.add_writer(self._channel, self._flush)

    def kill(self) -> None:
        """kill -9; that it is lost is told."""
        self._process.kill()

    def end(self, last: Frame, *, seconds: float) -> None:
        """Tell it the last thing, and wait so long for its end; then it is killed."""
        self._close()
        with suppress(OSError):
            self._channel.settimeout(max(seconds, 1.0))
            self._channel.sendall(self._unsent + encode(last))
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._channel.close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._channel.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # it has ended, which is read, too
            self._unsent.clear()
        self._loop.remove_writer(self._channel)

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            for frame in self._reader.feed(data):
                self._hear(frame)
            return
        self._close()
        self._channel.close()
        self._process.kill()  # it closes its end with its life; if not, it is of no use
        self._process.wait()
        self._lost(self)

    def _close(self) -> None:
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)


def variables(inherited: Mapping[str, str], home: Path) -> dict[str, str]:
    """Give the environment of a bridge.

    Whether Ray asks for a token is always said: heads take one that lies in the home directory without being told so,
    but drivers do not. What is written of Ray's configuration is the user's, and stays.
    """
    given = dict(inherited)
    has_token = any(name in given for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if "RAY_AUTH_MODE" not in given:
        given["RAY_AUTH_MODE"] = "token" if has_token or (home / ".ray" / "auth_token").is_file() else "disabled"
    given.setdefault(_RECONNECT_VARIABLE, str(_RECONNECT_SECONDS))  # then it ends, and the next one looks anew
    given.pop("RAY_ADDRESS", None)  # what was asked for is told, and this would take its place
    return given
