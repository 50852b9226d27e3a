"""What a supervisor says to the operator and hears from it, while there is one.

What cannot be told is dropped: the next operator is told in the `hello` how everything stands.
"""

import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cortex.domain.frame import Frame, FrameReader, encode
from cortex.worker.link import ORPHAN_SECONDS, connect, offer

RECONNECT_SECONDS: Final = 0.05
_READ_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Reports:
    """See the module."""

    channel: Path
    selector: selectors.BaseSelector
    hello: Callable[[], Frame]
    obey: Callable[[Frame], None]
    alone_since: float = field(default_factory=time.monotonic)
    _link: socket.socket | None = None
    _reader: FrameReader = field(default_factory=FrameReader)

    @property
    def is_alone(self) -> bool:
        """True while no operator is there."""
        return self._link is None

    @property
    def orphan_at(self) -> float:
        """When there is no more hope that an operator comes back."""
        return self.alone_since + ORPHAN_SECONDS

    def try_to_connect(self) -> None:
        """Introduce ourselves to the operator, if there is one again."""
        try:
            link = connect(self.channel)
            link.sendall(encode(self.hello()))
        except OSError:
            return
        self._link, self._reader = link, FrameReader()
        self.selector.register(link, selectors.EVENT_READ, self._hear)

    def tell(self, frame: Frame) -> None:
        """Tell the operator."""
        if self._link is not None:
            try:
                self._link.sendall(encode(frame))
            except OSError:
                self._lose_operator()

    def beat(self) -> None:
        """Show the operator that this process lives."""
        if self._link is not None:
            try:
                offer(self._link, {"type": "beat", "pid": os.getpid()})
            except OSError:
                self._lose_operator()

    def _hear(self) -> None:
        try:
            data = self._link.recv(_READ_BYTES) if self._link else b""
        except OSError:
            data = b""
        if not data:
            self._lose_operator()
        for frame in self._reader.feed(data):
            self.obey(frame)

    def _lose_operator(self) -> None:
        if self._link is not None:
            self.selector.unregister(self._link)
            self._link.close()
            self._link = None
            self.alone_since = time.monotonic()
