"""Copying what Workers on other machines have left of their rows into the operator's files."""

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import Final

from cortex.depositing.events import Copied, Copy, NotCopied
from cortex.depositing.places import JobPlace, RowsName
from cortex.domain.checksum import crc32
from cortex.domain.errors import FilesError
from cortex.files.files import Files
from cortex.worker.kernel import write_all_at

_AT_ONCE: Final = 4
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def copy(files: Files, root: str, copies: Sequence[Copy], tell: Callable[[Copied | NotCopied], None]) -> None:
    """Copy rows to where they begin in their Workers' files, and remove them in the storage; tell of each.

    May be repeated: the same bytes go to the same place.
    """
    with ThreadPoolExecutor(min(_AT_ONCE, len(copies))) as executor:
        outcomes = [executor.submit(_copy, files, root, index, wanted) for index, wanted in enumerate(copies)]
        for outcome in as_completed(outcomes):
            tell(outcome.result())


def _copy(files: Files, root: str, index: int, wanted: Copy) -> Copied | NotCopied:
    name = RowsName.read(wanted.name)
    url = JobPlace(root, wanted.job_id).rows(wanted.worker, name)
    try:
        data = files.read_range(url, 0, name.size)
        if crc32(data) != name.checksum:
            return NotCopied(index=index, reason=f"`{url}` is damaged")
        _write(wanted.rows, data, name.offset)
    except FilesError as error:
        return NotCopied(index=index, reason=error.message)
    except OSError as error:
        return NotCopied(index=index, reason=str(error), is_full=error.errno in _FULL)
    with suppress(FilesError):  # it is removed with the Job
        files.remove(url)
    return Copied(index=index)


def _write(path: str, data: bytes, offset: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        write_all_at(file, data, offset)
    finally:
        os.close(file)
