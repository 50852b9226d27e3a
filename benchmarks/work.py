"""What the workers of peers do with a batch, and how they tell that it is done.

Peers without cheap results would pay for a result backend only to be timed. So each batch adds one byte to a file, and
the driver looks at its size: their last acknowledgement is not waited for, which is in their favour.
"""

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

TASK_VARIABLE = "BENCHMARK_TASK"
ENDED_VARIABLE = "BENCHMARK_ENDED"
PATIENCE_SECONDS = 300

_decoder = msgspec.json.Decoder()


def nothing(batch: Any) -> None:
    """Do nothing."""


def parse(text: Any) -> None:
    """Parse lines, and do nothing with them."""
    parsed(text)


def parsed(text: Any) -> list[Any]:
    """Parse lines."""
    return _decoder.decode_lines(text)


def forest(rows: Any) -> None:
    """Let a forest of scikit-learn predict."""
    _model().predict(rows)


@cache
def _model() -> Any:
    from benchmarks.forest_model import make_model

    return make_model()


TASKS: dict[str, Callable[[Any], None]] = {"nothing": nothing, "parse": parse, "forest": forest}


def do_and_tell(batch: Any) -> None:
    """Do this process's task to a batch, then say that it has ended."""
    TASKS[os.environ[TASK_VARIABLE]](batch)
    os.write(_ended_file(), b".")


@cache
def _ended_file() -> int:
    path = os.environ[ENDED_VARIABLE]
    Path(f"{path}.{os.getpid()}").touch()
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Ended:
    """How many batches have ended, for the driver."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def variables(self, task: str) -> dict[str, str]:
        """Give what workers must find in their environment."""
        return {TASK_VARIABLE: task, ENDED_VARIABLE: str(self._path)}

    def count(self) -> int:
        """Count all that have ended since the beginning."""
        return self._path.stat().st_size

    def workers(self) -> int:
        """Count the processes in which any has ended."""
        return len(list(self._path.parent.glob(f"{self._path.name}.*")))

    def wait(self, count: int, look_seconds: float) -> None:
        """Wait until so many have ended."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while self.count() < count:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"{self.count()} of {count} batches had ended after {PATIENCE_SECONDS} s")
            time.sleep(look_seconds)
