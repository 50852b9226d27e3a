"""The page of a Worker, as its supervisor writes and reads it (domain.batch.Page says what is on it)."""

import os
import sys
from pathlib import Path
from typing import Final

_WORD_BYTES: Final = 8


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
