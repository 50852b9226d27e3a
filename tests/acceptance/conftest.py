"""What the acceptance tests share."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from shell import User


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    """A user in an empty folder; the operator that a command has started ends with the test, and nothing is left."""
    somebody = User(home=tmp_path / "home", folder=tmp_path / "project")
    somebody.home.mkdir()
    somebody.folder.mkdir()
    yield somebody
    somebody.cortex("cluster", "down")
    processes = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert [] == [command for command in processes if str(somebody.home) in command]
