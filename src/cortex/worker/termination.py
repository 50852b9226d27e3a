"""What SIGTERM means to a Worker: it ends only if its supervisor says so.

Whoever stops a service often sends SIGTERM to all of its processes at once. The operator then lets Workers finish what
they are in, so they must not die of that signal themselves. A supervisor that means it writes so on the page first.
"""

import os
import signal
from types import FrameType

from cortex.domain.batch import Page


class Termination:
    """Has this process, and what is forked from it, die of SIGTERM as ever until it is a Worker.

    What a Worker starts is as mortal as ever: libraries end their own helpers by SIGTERM. A handler that the
    predictor's module has set stays, and one that it sets later replaces this one.
    """

    def __init__(self) -> None:
        self._worker = 0
        self._page: memoryview | None = None
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._heed)
            os.register_at_fork(after_in_child=self._be_mortal)

    def heed_the_supervisor_alone(self, page: memoryview) -> None:
        """Be a Worker: die of SIGTERM only where the page says that it is meant."""
        self._worker, self._page = os.getpid(), page

    def _heed(self, number: int, _: FrameType | None) -> None:
        if self._page is None or self._page[Page.IS_TO_END] or os.getpid() != self._worker:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _be_mortal(self) -> None:
        if self._page is not None and signal.getsignal(signal.SIGTERM) == self._heed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
