"""A user with an empty home, at a shell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command wrote, and how it ended."""

    out: str
    err: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody in an own, empty home, whose commands run as in a shell, but not on a terminal."""

    home: Path
    folder: Path
    timeout_seconds: float = TIMEOUT_SECONDS

    def environment(self) -> dict[str, str]:
        """Give the variables of the shell: none of ours but the PATH."""
        return {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "CORTEX_CLI_CONFIG_DIR": str(self.home / "cortex"),
        }

    def shell(self, command: str) -> str:
        """Type a command; give everything that it writes, as a terminal shows it."""
        process = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self.timeout_seconds,
            text=True,
            check=False,
        )
        return process.stdout

    def cortex(self, *words: str, stdin: str = "") -> Said:
        """Run `cortex`; give its output and its exit code."""
        process = subprocess.run(
            ["cortex", *words],
            cwd=self.folder,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            timeout=self.timeout_seconds,
            text=True,
            check=False,
        )
        return Said(out=process.stdout, err=process.stderr, code=process.returncode)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@contextmanager
def new_user(folder: Path, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[User]:
    """Make a user with an empty project; the operator that a command has started ends with it, and nothing is left."""
    user = User(home=folder / "home", folder=folder / "project", timeout_seconds=timeout_seconds)
    user.home.mkdir()
    user.folder.mkdir()
    yield user
    user.cortex("cluster", "down")
    processes = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert [] == [command for command in processes if str(user.home) in command]
