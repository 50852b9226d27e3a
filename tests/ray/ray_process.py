"""A `ray start` and all that comes of it, and what is to be known of processes."""

import contextlib
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import psutil

import waiting
from processes import is_alive, name_of, words_of

TIMEOUT_SECONDS: Final = 90.0
"""Nodes start, and Ray gives them up, in seconds: on a busy machine in many."""

wait_until: Final = partial(waiting.wait_until, poll_seconds=0.05, timeout_seconds=TIMEOUT_SECONDS)


class RayProcess:
    """A `ray start --block` and what is printed by it."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            # In a session of its own: a Ctrl-C is for the tests, which end it in their order. It ends with them, too.
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it says that it has started."""
        wait_until(self._has_started, f"Ray has started, see {self.log}")

    def _has_started(self) -> bool:
        text = self.log.read_text(errors="replace")
        assert self.process.poll() is None, f"Ray did not start: {text}"
        assert "Some Ray subprocesses exited" not in text, text
        return "Ray runtime started." in text

    def processes(self) -> list[psutil.Process]:
        """Give all that has come of it and lives."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [each for each in psutil.Process(self.process.pid).children(recursive=True) if is_alive(each)]
        return []

    def one(self, *words: str) -> psutil.Process:
        """Give the process that has these words in its command, as soon as there is one."""
        found: list[psutil.Process] = []

        def is_there() -> bool:
            found[:] = [each for each in self.processes() if _has_words(each, words)]
            return bool(found)

        wait_until(is_there, f"a process runs {' '.join(words)}")
        return found[0]

    def one_called(self, name: str) -> psutil.Process:
        """Give a process that the kernel knows by this name."""
        names = {name_of(process): process for process in self.processes()}
        assert name in names, f"there are only {sorted(names)}"
        return names[name]

    def all_named(self, *words: str) -> list[psutil.Process]:
        """Give the living processes that have these words in their command."""
        return [each for each in self.processes() if _has_words(each, words)]


def _has_words(process: psutil.Process, words: tuple[str, ...]) -> bool:
    command = " ".join(words_of(process))
    return all(word in command for word in words)
