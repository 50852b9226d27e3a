"""What the stations of a machine share is there as long as one that uses it lives, and goes when none has for long."""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cortex.station.shared import Shared

LONG_AGO = 1_000_000.0
SINCE = LONG_AGO + 1
NAME, OTHER = "projects/abc", "models/def"

STATION = """
    import asyncio, sys
    from pathlib import Path
    from cortex.station.shared import Shared

    async def make(path):
        path.mkdir()
        (path / "file").write_text("made")

    async def have(root, *names):
        shared = Shared(Path(root))
        for name in names:
            await shared.have(name, make)
            assert "made" == (Path(root) / name / "file").read_text()
"""

LIVES = """
    asyncio.run(have(*sys.argv[1:]))
    print("ready", flush=True)
    sys.stdin.read()
"""

# Each of these is a station that has what it needs, looks at it for a while, and ends.
COMES_AND_GOES = """
    import os
    for _ in range(60):
        pid = os.fork()
        if pid == 0:
            asyncio.run(have(*sys.argv[1:]))
            for _ in range(50):
                assert (Path(sys.argv[1]) / sys.argv[2] / "file").exists()
            os._exit(0)
        assert 0 == os.waitpid(pid, 0)[1]
    print("ready", flush=True)
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "node"


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Start a station in a process of its own, which lives until it is killed."""
    with ExitStack() as stack:

        def start(*names: str, life: str = LIVES) -> "subprocess.Popen[str]":
            program = "\n".join(line.removeprefix("    ") for line in (STATION + life).splitlines())
            command = [sys.executable, "-c", program, str(root), *names]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def wait_until_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()


def come_and_go(start: Start, *names: str) -> None:
    """Have a station that has these and is killed."""
    process = start(*names)
    wait_until_ready(process)
    kill(process)


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()


def just_before_the_next_lock(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Have another station do this between what this one has seen and its lock."""
    flock, acts = fcntl.flock, [act]

    def act_and_lock(file: int, how: int) -> None:
        if acts:
            acts.pop()()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", act_and_lock)


def age(root: Path, *names: str) -> None:
    """Have these last used long ago."""
    for name in names:
        os.utime(root / "uses" / name, (LONG_AGO, LONG_AGO))


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_nobody_has_used_for_long_is_removed_with_all_that_belongs_to_it(root: Path, start: Start) -> None:
    come_and_go(start, NAME, OTHER)
    (root / "projects" / "abc.1234.new").mkdir()  # by one that was killed while it made it
    (root / "projects" / "abc.1234.new.tar").write_text("packed")
    age(root, NAME)

    Shared(root).remove_unused(SINCE)

    assert {"models/def/file", "locks/models/def", "uses/models/def"} == files(root)
    assert [] == list((root / "projects").iterdir())


def test_what_a_station_uses_stays_however_long_it_has_done_so(root: Path, start: Start) -> None:
    process = start(NAME)
    wait_until_ready(process)
    age(root, NAME)

    Shared(root).remove_unused(SINCE)
    kill(process)
    Shared(root).remove_unused(SINCE)  # it was in use a moment ago

    assert (root / NAME / "file").exists()


def test_what_is_removed_just_before_it_is_kept_is_kept_all_the_same(
    root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_before_the_next_lock(monkeypatch, lambda: Shared(root).remove_unused(time.time() + 3600))

    asyncio.run(Shared(root).keep(NAME))
    come_and_go(start, NAME)
    Shared(root).remove_unused(time.time() + 3600)

    assert (root / NAME).exists()


def test_what_was_used_just_before_it_would_be_removed_stays(
    root: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_and_go(start, NAME)
    age(root, NAME)
    just_before_the_next_lock(monkeypatch, lambda: os.utime(root / "uses" / NAME))

    Shared(root).remove_unused(SINCE)

    assert (root / NAME / "file").exists()


def test_what_was_removed_is_made_again(root: Path, start: Start) -> None:
    come_and_go(start, NAME)
    age(root, NAME)
    Shared(root).remove_unused(SINCE)
    assert not (root / NAME).exists()

    wait_until_ready(start(NAME))

    assert (root / NAME / "file").exists()


def test_what_one_that_was_killed_had_begun_to_remove_goes_with_the_next(root: Path) -> None:
    (root / "removed" / "1234").mkdir(parents=True)
    (root / "removed" / "1234" / "file").write_text("left")

    Shared(root).remove_unused(SINCE)

    assert set() == files(root)


def test_what_a_station_has_is_there_while_others_remove_all_that_they_can(root: Path, start: Start) -> None:
    stations = [start(NAME, life=COMES_AND_GOES) for _ in range(2)]

    removed = 0
    while any(station.poll() is None for station in stations):
        was_there = (root / NAME).exists()
        Shared(root).remove_unused(time.time() + 3600)
        removed += was_there and not (root / NAME).exists()

    assert [0, 0] == [station.returncode for station in stations]
    assert removed > 0
