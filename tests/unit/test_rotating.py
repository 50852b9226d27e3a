"""A log that is rotated while it is read: every byte comes once, in order."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cortex.web.rotating import RotatingReader


def append(log: Path, text: bytes) -> None:
    with log.open("ab") as file:
        file.write(text)


def rotate(log: Path) -> None:
    log.rename(log.with_name("log.1"))


def everything(reader: RotatingReader) -> bytes:
    return b"".join(iter(reader.read, b""))


def test_a_log_that_is_not_there_yet_is_empty_and_then_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with RotatingReader(log, tmp_path / "log.1") as reader:
        before = everything(reader)
        append(log, b"one\n")

        assert (b"", b"one\n") == (before, everything(reader))


def test_what_was_rotated_before_comes_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"one\n")
    rotate(log)
    append(log, b"two\n")

    with RotatingReader(log, tmp_path / "log.1") as reader:
        assert b"one\ntwo\n" == everything(reader)


def test_a_log_that_is_just_being_rotated_is_read_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"one\n")
    rotate(log)
    with RotatingReader(log, tmp_path / "log.1") as reader:
        before = everything(reader)
        append(log, b"two\n")

        assert (b"one\n", b"two\n") == (before, everything(reader))


def test_what_is_written_until_the_rotation_is_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"one\n")
    with RotatingReader(log, tmp_path / "log.1") as reader:
        first = everything(reader)
        append(log, b"two\n")
        rotate(log)
        between = everything(reader)  # there is no log at this moment
        append(log, b"three\n")

        assert (b"one\n", b"two\n", b"three\n") == (first, between, everything(reader))


def test_what_is_written_between_the_end_that_was_seen_and_the_rotation_is_not_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"

    class Late(RotatingReader):
        def _newer(self) -> list[int]:
            if self._files:  # all of it has been read, one would think
                append(log, b"two\n")
                rotate(log)
                append(log, b"three\n")
            return super()._newer()

    append(log, b"one\n")
    with Late(log, tmp_path / "log.1") as reader:
        assert [b"one\n", b"two\n", b"three\n"] == [reader.read() for _ in range(3)]


def test_two_rotations_between_two_looks_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append(log, b"one\n")
    with RotatingReader(log, tmp_path / "log.1") as reader:
        first = reader.read()
        for line in (b"two\n", b"three\n"):
            rotate(log)
            append(log, line)

        assert (b"one\n", b"two\nthree\n") == (first, everything(reader))


@given(steps=st.lists(st.sampled_from(["write", "rotate", "read"]), max_size=40))
def test_every_line_comes_once_with_up_to_two_rotations_between_two_looks(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        written, rotated = b"first\n", 0
        append(log, written)
        with RotatingReader(log, Path(folder) / "log.1") as reader:
            read = everything(reader)
            for number, step in enumerate(steps):
                if step == "write":
                    append(log, b"line %d\n" % number)
                    written += b"line %d\n" % number
                elif step == "rotate" and log.exists() and rotated < 2:
                    rotate(log)
                    rotated += 1
                elif step == "read":
                    read += everything(reader)
                    rotated = 0 if log.exists() else rotated
            append(log, b"last\n")
            read += everything(reader)

        assert written + b"last\n" == read
