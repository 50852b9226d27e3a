"""The start of the Worker, from when the operator asks for it until the supervisor is told."""

import asyncio
import os
from collections.abc import Callable, Iterable

from cortex.domain.errors import CortexError
from cortex.domain.frame import Frame, Message
from cortex.station.local_channel import LocalChannel
from cortex.station.mirror import Mirror
from cortex.station.preparation import Preparation
from cortex.station.start_frame import Ready, rewrite_start


class Starting:
    """See the module. The operator may ask again when it has been away; there is one start all the same."""

    def __init__(
        self,
        worker: str,
        preparation: Preparation,
        mirror: Mirror,
        channel: LocalChannel,
        *,
        tell: Callable[[Iterable[Message]], None],
        fail: Callable[[str], None],
    ) -> None:
        """`fail` is told, in words that follow "the worker", why there will be no start."""
        self.is_done = False  # the supervisor knows of it
        self._worker = worker
        self._preparation = preparation
        self._mirror = mirror
        self._channel = channel
        self._tell = tell
        self._fail = fail
        self._asked: Frame = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_at_work(self) -> bool:
        """True while the Worker is made ready for its start."""
        return self._task is not None and not self._task.done()

    def start(self, frame: Frame) -> None:
        """Make ready what this asks for, and hand it to the supervisor."""
        self._asked = frame
        if not self.is_done and not self.is_at_work:
            self._task = asyncio.get_running_loop().create_task(self._start())

    def cancel(self) -> None:
        """Go no further."""
        if self._task is not None:
            self._task.cancel()

    def give_up(self) -> None:
        """Stop what has not been started, and say so in the supervisor's name."""
        self.cancel()
        about = {"peer": "supervisor", "worker": self._worker}
        self._tell([({**about, "type": "drained"}, None), ({**about, "type": "exited", "exit_status": 0}, None)])

    async def _start(self) -> None:
        try:
            ready = await self._preparation.make_ready(self._asked)
            self._hand_over(ready)
        except (CortexError, OSError) as error:
            self._fail(f"could not start: {error}")
        except Exception as error:  # or whoever waits would never hear of it
            self._fail(f"could not start: its station has failed: {error!r}")
            raise

    def _hand_over(self, ready: Ready) -> None:
        """Tell the supervisor. If it is away, the operator will ask again when it has come back."""
        folder = self._mirror.folder
        frame, setup = rewrite_start(
            self._asked, ready, folder=folder, channel=self._mirror.channel, environ=os.environ
        )
        folder.setup.write_text(setup, encoding="utf-8", errors="surrogatepass")
        if self._channel.has("supervisor"):
            self.is_done = True
            self._channel.send("supervisor", frame)
