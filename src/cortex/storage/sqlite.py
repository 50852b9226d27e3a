"""The ledger in an SQLite file."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cortex.domain.errors import StartRefused
from cortex.domain.isolation import Death, DeathKind, Part
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.domain.submission_key import SubmissionKey
from cortex.storage.ledger import (
    NO_FILES,
    Ledger,
    UnsyncedFile,
    Version,
    WorkerRecord,
    check_key,
    check_move,
    check_publication,
)
from cortex.storage.rows import read_death, read_job, read_version, write_counts, write_job
from cortex.storage.sqlite_errors import RESTORE, refusal, storage_failure
from cortex.storage.upgrades import SCHEMA_VERSION, UPGRADES

_VERSION_COLUMNS: Final = "api_id, api_name, kind, versions.endpoint, spec, project_id, deployed_at_ns"

_MOVE: Final = """
    UPDATE jobs SET status = :status, status_reason = coalesce(:reason, status_reason),
        ending = coalesce(:ending, ending), started_at_ns = coalesce(started_at_ns, :started_at_ns),
        ended_at_ns = :ended_at_ns, succeeded = :succeeded, failed = :failed, in_queue = :in_queue,
        succeeded_items = :succeeded_items, failed_items = :failed_items, busy_seconds = :busy_seconds
    WHERE id = :id RETURNING *
"""

_END_WORKER: Final = "UPDATE workers SET is_gone = 1 WHERE worker = ?"
_SEGMENTS: Final = "SELECT number, first, count FROM segments WHERE job_id = ? ORDER BY number"


class SqliteLedger(Ledger):
    """A ledger in one file, in WAL mode. A durable commit costs one sync, any other none."""

    def __init__(self, path: Path, *, observe: Callable[[str], None] = lambda _: None) -> None:
        """Open a ledger, or make one.

        Just before and just after each commit, `observe` is told of it: `before move`, `after move`.
        """
        self._observe = observe
        self._synchronous = ""
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._check(path)
            self._create_schema(path)
            self._last_unsynced: int = self._db.execute("SELECT coalesce(max(number), 0) FROM unsynced").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise refusal(path, error) from error

    def _check(self, path: Path) -> None:
        """Look at every page, which takes about a second for a gigabyte: better no operator than one that forgets."""
        (found,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StartRefused(f"`{path}` is damaged: {found.splitlines()[-1]}", hint=RESTORE)

    def _create_schema(self, path: Path) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StartRefused(
                f"`{path}` was written by a newer version of cortex: its schema is {version},"
                f" this one knows {SCHEMA_VERSION}",
                hint="upgrade cortex, or use another --data-dir",
            )
        if version == 0:
            schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
        else:
            schema = " ".join(UPGRADES[version - 1 :])
        if version < SCHEMA_VERSION:
            self._db.executescript(f"BEGIN; {schema} PRAGMA user_version = {SCHEMA_VERSION};")
            self._commit("make_schema")

    @contextmanager
    def _transaction(self, name: str, *, durable: bool) -> Iterator[sqlite3.Connection]:
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._commit(name)
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and (failure := storage_failure(error)):
                raise failure from error
            raise

    def _commit(self, name: str) -> None:
        self._observe(f"before {name}")
        self._db.execute("COMMIT")
        self._observe(f"after {name}")

    def boot_id(self) -> str | None:
        row = self._db.execute("SELECT boot_id FROM operator").fetchone()
        return row["boot_id"] if row else None

    def begin_epoch(self, boot_id: str) -> tuple[int, bool]:
        with self._transaction("begin_epoch", durable=True) as db:
            last = db.execute("SELECT epoch, boot_id FROM operator").fetchone()
            epoch = last["epoch"] + 1 if last else 1
            db.execute("REPLACE INTO operator (one, epoch, boot_id) VALUES (1, ?, ?)", (epoch, boot_id))
        return epoch, last is not None and last["boot_id"] != boot_id

    def deploy(self, versions: Sequence[Version]) -> None:
        with self._transaction("deploy", durable=True) as db:
            db.executemany(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (api_id) DO UPDATE SET deployed_at_ns = excluded.deployed_at_ns",
                [
                    (
                        version.api_id,
                        version.api_name,
                        version.kind,
                        version.endpoint,
                        json.dumps(version.spec),
                        version.project_id,
                        version.deployed_at_ns,
                    )
                    for version in versions
                ],
            )
            # All leave before any returns: two of them may swap their endpoints.
            db.executemany("DELETE FROM apis WHERE name = ?", [(version.api_name,) for version in versions])
            try:
                db.executemany(
                    "INSERT INTO apis VALUES (?, ?, ?)",
                    [(version.api_name, version.api_id, version.endpoint) for version in versions],
                )
            except sqlite3.IntegrityError as error:
                raise ValueError("two APIs have the same endpoint") from error
            _forget_unneeded_versions(db)

    def versions(self) -> Sequence[Version]:
        return [
            read_version(row)
            for row in self._db.execute(
                f"SELECT {_VERSION_COLUMNS} FROM versions JOIN apis USING (api_id) ORDER BY name"  # noqa: S608
            )
        ]

    def version(self, api_id: str) -> Version | None:
        query = f"SELECT {_VERSION_COLUMNS} FROM versions WHERE api_id = ?"  # noqa: S608 - a constant
        row = self._db.execute(query, (api_id,)).fetchone()
        return read_version(row) if row else None

    def project_ids(self) -> set[str]:
        return {row["project_id"] for row in self._db.execute("SELECT DISTINCT project_id FROM versions")}

    def needed_versions(self, *, without_jobs: Sequence[str] = ()) -> Sequence[Version]:
        query = (
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE api_id IN (SELECT api_id FROM apis)"  # noqa: S608
            " OR EXISTS (SELECT 1 FROM jobs WHERE jobs.api_id = versions.api_id"
            " AND id NOT IN (SELECT value FROM json_each(?))) ORDER BY api_id"
        )
        return [read_version(row) for row in self._db.execute(query, (json.dumps(list(without_jobs)),))]

    def delete_api(self, api_name: str) -> None:
        with self._transaction("delete_api", durable=True) as db:
            _forget_jobs(db, "api_name = ?", api_name)
            db.execute("DELETE FROM apis WHERE name = ?", (api_name,))
            db.execute("DELETE FROM versions WHERE api_name = ?", (api_name,))

    def add_job(
        self,
        job: Job,
        segments: Sequence[SegmentRange],
        key: SubmissionKey | None = None,
        deaths: Sequence[Death] = (),
        files: Mapping[str, bytes] = NO_FILES,
    ) -> None:
        with self._transaction("add_job", durable=True) as db:
            if key is not None:
                check_key(self.keyed_job(job.api_name, key.name))
            db.execute(
                "INSERT INTO jobs (id, api_name, api_id, workers, workers_min, config, source, policy, output,"
                " rerun_of, origin, batch_size, item_count, total_batch_count, status, created_at_ns, started_at_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                write_job(job),
            )
            db.executemany(
                "INSERT INTO segments (job_id, number, first, count) VALUES (?, ?, ?, ?)",
                [(job.id, segment.number, segment.first, segment.count) for segment in segments],
            )
            if key is not None:
                row = (job.api_name, key.name, job.id, key.body_sha256)
                db.execute("INSERT INTO submission_keys VALUES (?, ?, ?, ?)", row)
            db.executemany(
                "INSERT INTO deaths VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (job.id, death.batch, *death.part, death.deaths, death.timeouts, death.cause, death.kind)
                    for death in deaths
                ],
            )
            self._write_unsynced(job.id, files)

    def keyed_job(self, api_name: str, key_name: str) -> tuple[Job, SubmissionKey] | None:
        query = "SELECT job_id, body_sha256 FROM submission_keys WHERE api_name = ? AND name = ?"
        row = self._db.execute(query, (api_name, key_name)).fetchone()
        job = self.job(row["job_id"]) if row else None
        return (job, SubmissionKey(name=key_name, body_sha256=row["body_sha256"])) if job else None

    def publish(self, job_id: str, segment: SegmentRange, *, item_count: int, cursor: Mapping[str, Any]) -> Job:
        with self._transaction("publish", durable=False) as db:
            job = self.job(job_id)
            last = db.execute(f"{_SEGMENTS} DESC LIMIT 1", (job_id,)).fetchone()
            check_publication(job, job_id, SegmentRange(**last) if last else None, segment)
            db.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?)",
                (job_id, segment.number, segment.first, segment.count, json.dumps(cursor)),
            )
            row = db.execute(
                "UPDATE jobs SET total_batch_count = total_batch_count + ?, item_count = item_count + ?"
                " WHERE id = ? RETURNING *",
                (segment.count, item_count, job_id),
            ).fetchone()
        return read_job(row)

    def cursor(self, job_id: str) -> Mapping[str, Any] | None:
        query = "SELECT cursor FROM segments WHERE job_id = ? ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query, (job_id,)).fetchone()
        return json.loads(row["cursor"]) if row and row["cursor"] is not None else None

    def job(self, job_id: str) -> Job | None:
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return read_job(row) if row else None

    def jobs(self, api_name: str) -> Sequence[Job]:
        return [
            read_job(row) for row in self._db.execute("SELECT * FROM jobs WHERE api_name = ? ORDER BY id", (api_name,))
        ]

    def newest_job(self, api_name: str) -> Job | None:
        query = "SELECT * FROM jobs WHERE api_name = ? ORDER BY id LIMIT 1"
        row = self._db.execute(query, (api_name,)).fetchone()
        return read_job(row) if row else None

    def count_in_progress(self, api_name: str) -> int:
        query = "SELECT count(*) FROM jobs INDEXED BY jobs_in_progress WHERE ended_at_ns IS NULL AND api_name = ?"
        count: int = self._db.execute(query, (api_name,)).fetchone()[0]
        return count

    def ended_jobs_beyond(self, api_name: str, count: int, *, limit: int) -> Sequence[str]:
        query = (
            "SELECT id FROM jobs INDEXED BY jobs_ended WHERE api_name = ? AND ended_at_ns IS NOT NULL"
            " ORDER BY ended_at_ns DESC, id LIMIT ? OFFSET ?"
        )
        return [row["id"] for row in self._db.execute(query, (api_name, limit, count))]

    def jobs_ended_before(self, at_ns: int, *, limit: int) -> Sequence[str]:
        query = "SELECT id FROM jobs INDEXED BY jobs_by_end WHERE ended_at_ns < ? ORDER BY ended_at_ns, id LIMIT ?"
        return [row["id"] for row in self._db.execute(query, (at_ns, limit))]

    def delete_jobs(self, job_ids: Sequence[str]) -> None:
        with self._transaction("delete_jobs", durable=True) as db:
            condition = "id IN (SELECT value FROM json_each(?)) AND ended_at_ns IS NOT NULL"
            _forget_jobs(db, condition, json.dumps(list(job_ids)))
            _forget_unneeded_versions(db)

    def jobs_in_progress(self) -> Sequence[Job]:
        query = "SELECT * FROM jobs WHERE ended_at_ns IS NULL ORDER BY id DESC"
        return [read_job(row) for row in self._db.execute(query)]

    def newest_job_id(self) -> str | None:
        query = "SELECT min(id) FROM (SELECT min(id) AS id FROM jobs UNION ALL SELECT newest_job_id FROM forgotten)"
        newest: str | None = self._db.execute(query).fetchone()[0]
        return newest

    def segments(self, job_id: str) -> Sequence[SegmentRange]:
        return [SegmentRange(**row) for row in self._db.execute(_SEGMENTS, (job_id,))]

    def move(
        self,
        job_id: str,
        status: JobStatus,
        *,
        at_ns: int,
        reason: str | None = None,
        ending: JobStatus | None = None,
        counts: Counts | None = None,
        busy_seconds: float = 0.0,
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Job:
        job = self.job(job_id)
        with self._transaction("move", durable=True) as db:
            check_move(job, job_id, status, ending, counts)
            row = db.execute(
                _MOVE,
                {
                    "id": job_id,
                    "status": status,
                    "reason": reason,
                    "ending": ending,
                    "started_at_ns": at_ns if status is JobStatus.RUNNING else None,
                    "ended_at_ns": at_ns if counts is not None else None,
                    "busy_seconds": busy_seconds,
                    **write_counts(counts),
                },
            ).fetchone()
            self._write_unsynced(job_id, files)
        return read_job(row)

    def _write_unsynced(self, job_id: str, files: Mapping[str, bytes]) -> None:
        numbered = enumerate(files.items(), start=self._last_unsynced + 1)
        rows = [(job_id, number, name, content) for number, (name, content) in numbered]
        self._db.executemany("INSERT INTO unsynced VALUES (?, ?, ?, ?)", rows)
        self._last_unsynced += len(rows)

    def unsynced(self) -> Sequence[UnsyncedFile]:
        rows = self._db.execute("SELECT number, job_id, name FROM unsynced ORDER BY number")
        return [UnsyncedFile(**row) for row in rows]

    def unsynced_bytes(self, file: UnsyncedFile) -> bytes:
        query = "SELECT bytes FROM unsynced WHERE job_id = ? AND number = ?"
        row = self._db.execute(query, (file.job_id, file.number)).fetchone()
        return row["bytes"] if row else b""

    def forget_unsynced(self, up_to: int) -> None:
        with self._transaction("forget_unsynced", durable=False) as db:
            db.execute("DELETE FROM unsynced WHERE number <= ?", (up_to,))

    def start_hook(self, job_id: str, worker: str) -> None:
        with self._transaction("start_hook", durable=True) as db:
            query = "UPDATE jobs SET hook_worker = ? WHERE id = ? AND hook_worker IS NULL"
            if db.execute(query, (worker, job_id)).rowcount != 1:
                raise ValueError(f"on_job_complete of job {job_id} was started before")

    def add_worker(self, record: WorkerRecord) -> None:
        with self._transaction("add_worker", durable=False) as db:
            db.execute(
                "INSERT OR IGNORE INTO workers (worker, job_id, supervisor, pid, process_started_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (record.worker, record.job_id, record.supervisor, record.pid, record.process_started_at),
            )

    def end_worker(self, worker: str) -> None:
        with self._transaction("end_worker", durable=False) as db:
            db.execute(_END_WORKER, (worker,))

    def workers(self, job_id: str) -> Sequence[WorkerRecord]:
        query = (
            "SELECT worker, job_id, supervisor, pid, process_started_at FROM workers"
            " WHERE job_id = ? AND is_gone = 0 ORDER BY worker"
        )
        return [WorkerRecord(**row) for row in self._db.execute(query, (job_id,))]

    def charge_death(
        self, job_id: str, batch: int, part: Part, *, kind: DeathKind, cause: str, worker: str | None = None
    ) -> Death:
        is_timeout = kind is DeathKind.TIMED_OUT
        with self._transaction("charge_death", durable=False) as db:
            row = db.execute(
                "INSERT INTO deaths VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (job_id, batch, first_item, end_item) DO UPDATE SET deaths = deaths + excluded.deaths,"
                " timeouts = timeouts + excluded.timeouts, cause = excluded.cause, kind = excluded.kind RETURNING *",
                (job_id, batch, part.first, part.end, not is_timeout, is_timeout, cause, kind),
            ).fetchone()
            if worker is not None:
                db.execute(_END_WORKER, (worker,))
        return read_death(row)

    def deaths(self, job_id: str) -> Sequence[Death]:
        query = "SELECT * FROM deaths WHERE job_id = ? ORDER BY batch, first_item, end_item"
        return [read_death(row) for row in self._db.execute(query, (job_id,))]

    def close(self) -> None:
        self._db.close()


def _forget_jobs(db: sqlite3.Connection, condition: str, parameter: str) -> None:
    db.execute(
        f"INSERT INTO forgotten SELECT 1, min(id) FROM jobs WHERE {condition} HAVING min(id) IS NOT NULL"  # noqa: S608
        " ON CONFLICT (one) DO UPDATE SET newest_job_id = min(newest_job_id, excluded.newest_job_id)",
        (parameter,),
    )
    db.execute(f"DELETE FROM jobs WHERE {condition}", (parameter,))  # noqa: S608 - constants


def _forget_unneeded_versions(db: sqlite3.Connection) -> None:
    """Forget what is neither deployed nor has a Job; the index spares looking at every Job."""
    db.execute(
        "DELETE FROM versions WHERE api_id NOT IN (SELECT api_id FROM apis)"
        " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.api_id = versions.api_id)"
    )
