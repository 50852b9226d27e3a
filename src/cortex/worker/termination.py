"""What SIGTERM means to a Worker: it ends only if its supervisor says so.

Whoever stops a service often sends SIGTERM to all of its processes at once. The operator then lets Workers finish what
they are in, so they must not die of that signal themselves. A supervisor that means it writes so on the page first.
"""

import os
import signal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from cortex.domain.batch import Page

_IS_TO_END: Final = (1).to_bytes(8, "little")


def say_that_it_is_meant(page: Path) -> None:
    """Have the Worker of this page heed SIGTERM from now on. Raises OSError."""
    file = os.open(page, os.O_WRONLY)
    try:
        os.pwrite(file, _IS_TO_END, 8 * Page.IS_TO_END)
    finally:
        os.close(file)


def heed_the_supervisor_alone(page: memoryview) -> None:
    """Die of SIGTERM only where the page says that it is meant.

    What this process starts is as mortal as ever: libraries end their own helpers by SIGTERM. A handler that the
    predictor's module has set stays, and one that it sets later replaces this one.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    worker = os.getpid()

    def heed(number: int, _: FrameType | None) -> None:
        if page[Page.IS_TO_END] or os.getpid() != worker:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, heed)
    os.register_at_fork(after_in_child=partial(_be_mortal, heed))


def _be_mortal(heed: object) -> None:
    if signal.getsignal(signal.SIGTERM) is heed:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
