"""Waiting for what nobody announces."""

import time
from collections.abc import Callable
from typing import Any


def wait_until(
    is_so: Callable[[], Any], what: str = "it is so", *, poll_seconds: float = 0.002, timeout_seconds: float = 60.0
) -> None:
    """Wait for a fact that nobody announces."""
    deadline = time.monotonic() + timeout_seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_seconds:g} s in vain until {what}")
        time.sleep(poll_seconds)
