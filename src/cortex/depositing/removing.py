"""Removing what nobody needs any more in a shared storage, and looking whether it can be used at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from secrets import token_hex
from typing import Final

from cortex.depositing.places import JobPlace
from cortex.files.address import local_path, read_address
from cortex.files.files import Files

_AT_ONCE: Final = 8


def check(files: Files, root: str) -> None:
    """Write a file there, read it and remove it. Raises FilesError."""
    probe, content = f"{root}/probe-{token_hex(4)}", b"probe"
    files.write(probe, content)
    files.read_range(probe, 0, len(content))
    files.remove(probe)


def remove_jobs(files: Files, root: str, jobs: Iterable[str]) -> None:
    """Remove all that lies there of these Jobs. Raises FilesError. May be repeated."""
    for job in jobs:
        base = JobPlace(root, job).base
        if read_address(root).scheme == "file":
            shutil.rmtree(os.fsdecode(local_path(base)), ignore_errors=True)
        else:
            _remove(files, (file.url for file in files.list(base)))


def jobs_there(files: Files, root: str) -> Iterator[str]:
    """Give the Jobs of which anything lies there. Raises FilesError."""
    if read_address(root).scheme == "file":
        with suppress(FileNotFoundError):
            yield from sorted(os.listdir(os.fsdecode(local_path(root))))  # noqa: PTH208
        return
    base, after = f"{root}/", None
    while file := next(files.list(base, after=after), None):
        job, _, _ = file.url.removeprefix(base).partition("/")
        yield job
        after = f"{base}{job}0"  # which comes after all that begins with the job and a slash


def _remove(files: Files, urls: Iterable[str]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        for _ in executor.map(files.remove, urls):
            pass
