"""The page of a Worker, as it and its supervisor write and read it (domain.batch.Page says what is on it)."""

import mmap
import os
import sys
from pathlib import Path
from typing import Final

from cortex.domain.batch import Page

_WORD_BYTES: Final = 8


def map_words(page: Path) -> "memoryview[int]":
    """Give the words of a page, for the Worker whose page it is. Raises OSError."""
    file = os.open(page, os.O_RDWR)
    try:
        return memoryview(mmap.mmap(file, Page.SIZE)).cast("Q")
    finally:
        os.close(file)


def write_word(page: Path, word: int, value: int) -> None:
    """Write one word on a page. Raises OSError."""
    file = os.open(page, os.O_WRONLY)
    try:
        os.pwrite(file, value.to_bytes(_WORD_BYTES, sys.byteorder), _WORD_BYTES * word)
    finally:
        os.close(file)


def read_word(page: Path, word: int) -> int:
    """Read one word of a page; 0 where it is missing or cut short."""
    try:
        file = os.open(page, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int.from_bytes(os.pread(file, _WORD_BYTES, _WORD_BYTES * word), sys.byteorder)
    finally:
        os.close(file)
