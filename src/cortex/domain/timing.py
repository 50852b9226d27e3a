"""How work is asked for that is to be done at another time, or by another thread."""

from collections.abc import Callable
from typing import Any

Timer = Callable[[float, Callable[[], None]], Callable[[], None]]
"""Calls something after so many seconds, in the same thread; gives what cancels that."""

Background = Callable[[Callable[[], None], Callable[[], None]], None]
"""Has a thread of its own do something slow, until that succeeds, and then calls something in the caller's thread."""

Apart = Callable[[Callable[[], Any], Callable[[Callable[[], Any]], None]], None]
"""Has another thread read what may not answer, and tells the caller's thread how to get what was read, or raised."""
