"""Waiting for another machine no longer than is sensible, even where the system itself waits for ever."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

_Result = TypeVar("_Result")

_MOST_HANGING: Final = 4
_MOST_SECONDS: Final = 20.0


class NotInTime(Exception):
    """It is not done, and nobody waits for it any more."""


@dataclass(slots=True)
class InTime:
    """Does things for so many seconds at most; what one does after that, if it ever goes on, is lost.

    A network disk that is gone holds every thread that touches it: after four, nothing is tried until one comes back.
    """

    seconds: float = _MOST_SECONDS
    _hanging: list[threading.Thread] = field(default_factory=list)

    def call(self, act: Callable[[], _Result]) -> _Result:
        """Do something, in a thread of its own; raise what it raises, and NotInTime."""
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= _MOST_HANGING:
            raise NotInTime("the storage has not answered for a long time")
        results: list[_Result] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(act())
            except BaseException as error:  # whoever waits is to have it
                errors.append(error)

        thread = threading.Thread(target=run, name="at the storage", daemon=True)
        thread.start()
        thread.join(self.seconds)
        if thread.is_alive():
            self._hanging.append(thread)
            raise NotInTime(f"the storage has not answered for {self.seconds:g} seconds")
        if errors:
            raise errors[0]
        return results[0]
