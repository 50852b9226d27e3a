"""The folders of jobs have nothing to do with each other, and the file system is told so where it wants to know."""

import fcntl
import os
import struct
from pathlib import Path

import pytest

from cortex.storage.files import spread_folders

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
IS_TOP, IS_NOT_DUMPED = 0x00020000, 0x00000040


def flags_of(folder: Path) -> int:
    """Give the flags of a folder; skips where its file system has none."""
    file = os.open(folder, os.O_RDONLY)
    try:
        (flags,) = struct.unpack("I", fcntl.ioctl(file, GET_FLAGS, bytes(4)))
        fcntl.ioctl(file, SET_FLAGS, struct.pack("I", flags | IS_TOP))
        fcntl.ioctl(file, SET_FLAGS, struct.pack("I", flags))
    except OSError as error:
        pytest.skip(f"the file system knows no such thing: {error}")
    finally:
        os.close(file)
    return int(flags)


def set_flags(folder: Path, flags: int) -> None:
    file = os.open(folder, os.O_RDONLY)
    fcntl.ioctl(file, SET_FLAGS, struct.pack("I", flags))
    os.close(file)


def test_the_file_system_is_told_once_for_all(tmp_path: Path) -> None:
    before = flags_of(tmp_path)
    set_flags(tmp_path, before | IS_NOT_DUMPED)

    spread_folders(tmp_path)
    spread_folders(tmp_path)

    assert before | IS_NOT_DUMPED | IS_TOP == flags_of(tmp_path)
    set_flags(tmp_path, before)


def test_a_file_system_that_knows_no_such_thing_is_let_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(25, "Inappropriate ioctl for device")

    opened = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(fcntl, "ioctl", refuse)

    spread_folders(tmp_path)

    assert opened == len(list(Path("/proc/self/fd").iterdir()))
