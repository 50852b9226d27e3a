"""What SQLite has against the ledger's file, in the words of whoever runs an operator."""

import sqlite3
from pathlib import Path
from typing import Final

from cortex.domain.errors import StartRefused, StorageFailed
from cortex.storage.files import disk_failed, disk_full

RESTORE: Final = "restore it and its `-wal` file from a copy, or use another --data-dir"

_BROKEN: Final = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_AUTH,
)


def storage_failure(error: sqlite3.OperationalError) -> StorageFailed | None:
    """Say what the disk has against a write; None where it is something else."""
    if _kind(error) == sqlite3.SQLITE_FULL:
        return disk_full()
    return disk_failed(str(error)) if _kind(error) in _BROKEN else None


def refusal(path: Path, error: sqlite3.DatabaseError) -> StartRefused:
    """Say why a ledger cannot be opened."""
    if _kind(error) == sqlite3.SQLITE_FULL:
        return StartRefused(f"`{path}` cannot be written: the disk is full", hint="make room on it")
    if _kind(error) in _BROKEN:
        hint = "make it and its folder readable and writable for this user"
        return StartRefused(f"`{path}` cannot be used: {error}", hint=hint)
    return StartRefused(f"`{path}` is damaged, or no ledger of cortex: {error}", hint=RESTORE)


def _kind(error: sqlite3.DatabaseError) -> int:
    """Give the error's code without what is special about it, which the upper bits say."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
