"""Calls that somebody else than the thread that makes them may give up: their connection is cut, their pauses end."""

import socket
import threading
import time
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_current: ContextVar["Call | None"] = ContextVar("cortex call", default=None)
_lock: Final = threading.Lock()
"""Guards which call holds a connection: whoever cuts one must not meet the next call on it."""


class CallGivenUp(Exception):
    """Nobody waits for the answer any more."""


class Call:
    """What is asked of an operator in `context`, in one thread at a time."""

    def __init__(self) -> None:
        self.context: Context = copy_context()
        self.context.run(_current.set, self)
        self._is_given_up = threading.Event()
        self._connection: _HeldConnection | None = None

    def give_up(self) -> None:
        """Cut the connection and end the pause, if there is one; the thread then raises soon. May be repeated."""
        self._is_given_up.set()
        with _lock:
            if self._connection is not None and self._connection.call is self:
                self._connection.cut()

    def check(self) -> None:
        """Raise CallGivenUp if it is."""
        if self._is_given_up.is_set():
            raise CallGivenUp

    def hold(self, connection: "_HeldConnection") -> None:
        """Remember what is to be cut. Raises CallGivenUp."""
        self._connection = connection
        self.check()

    def pause(self, seconds: float) -> None:
        """Wait. Raises CallGivenUp as soon as it is."""
        if self._is_given_up.wait(seconds):
            raise CallGivenUp


def pause(seconds: float) -> None:
    """Sleep, in a call not beyond its end."""
    call = _current.get()
    if call is None:
        time.sleep(seconds)
    else:
        call.pause(seconds)


class _HeldConnection(HTTPConnection):
    """A connection that knows the call that uses it, or has used it last."""

    call: Call | None = None
    _is_cut = False

    def cut(self) -> None:
        """Have whoever reads or writes find the end."""
        self._is_cut = True
        if self.sock is not None:
            with suppress(OSError):  # it has been closed by the other side
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # below TLS, whose state is its thread's alone

    def connect(self) -> None:
        """See urllib3."""
        super().connect()
        if self.call is not None:
            self.call.check()

    def request(self, *args: Any, **options: Any) -> None:
        """See urllib3."""
        with _lock:
            if self._is_cut:  # after its call was over, when it was idle already
                self.close()
                self._is_cut = False
            self.call = _current.get()
            if self.call is not None:
                self.call.hold(self)
        super().request(*args, **options)


class _HeldTlsConnection(_HeldConnection, HTTPSConnection):
    """The same with TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HeldConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HeldTlsConnection


POOLS: Final[dict[str, type[HTTPConnectionPool]]] = {"http": _HttpPool, "https": _HttpsPool}
"""The connection pools of a PoolManager whose calls can be given up."""
