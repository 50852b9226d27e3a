"""Ledgers as earlier versions of cortex have written them."""

import sqlite3
from contextlib import closing
from pathlib import Path

_FIXTURES = Path(__file__).with_name("fixtures")

EARLIER = {
    6: (),
    5: ("DROP TABLE unsynced",),
    4: (),
    3: ("DROP TABLE submission_keys",),
    2: (
        *(f"DROP INDEX {index}" for index in ("jobs_by_version", "jobs_ended", "jobs_by_end", "workers_by_job")),
        "DROP TABLE forgotten",
        "CREATE INDEX workers_by_job ON workers (job_id) WHERE is_gone = 0",
    ),
    1: ("ALTER TABLE jobs DROP COLUMN source", "ALTER TABLE segments DROP COLUMN cursor"),
}
"""What makes a file of each schema out of one of the next; those for which there is nothing are in the fixtures."""

IN_FIXTURES = [number for number, steps in EARLIER.items() if not steps]


def write_ledger(number: int, path: Path) -> None:
    """Write the file that a version of cortex with this schema began with."""
    fixture = min(each for each in IN_FIXTURES if each >= number)
    with closing(sqlite3.connect(path)) as db:
        db.executescript((_FIXTURES / f"schema-{fixture}.sql").read_text(encoding="utf-8"))
        for statement in [each for step in range(fixture, number - 1, -1) for each in EARLIER[step]]:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")
