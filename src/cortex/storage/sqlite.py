"""The ledger in an SQLite file."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cortex.domain.errors import StartRefused
from cortex.domain.job import Counts, Job, JobStatus, SegmentRange
from cortex.domain.source import FileSource
from cortex.domain.submission_key import SubmissionKey
from cortex.storage.files import disk_full
from cortex.storage.ledger import Death, Ledger, Version, WorkerRecord, check_key, check_move, check_publication

_UPGRADES: Final = (
    "ALTER TABLE jobs ADD COLUMN source TEXT; ALTER TABLE segments ADD COLUMN cursor TEXT;",
    """
    CREATE INDEX jobs_by_version ON jobs (api_id);
    CREATE INDEX jobs_ended ON jobs (api_name, ended_at_ns DESC, id) WHERE ended_at_ns IS NOT NULL;
    CREATE INDEX jobs_by_end ON jobs (ended_at_ns, id) WHERE ended_at_ns IS NOT NULL;
    CREATE TABLE forgotten (one INTEGER PRIMARY KEY CHECK (one = 1), newest_job_id TEXT NOT NULL) STRICT;
    DROP INDEX workers_by_job;
    CREATE INDEX workers_by_job ON workers (job_id);
    """,
    """
    CREATE TABLE submission_keys (
        api_name TEXT NOT NULL,
        name TEXT NOT NULL,
        job_id TEXT NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
        body_sha256 TEXT NOT NULL CHECK (length(body_sha256) = 64),
        PRIMARY KEY (api_name, name)
    ) STRICT, WITHOUT ROWID;
    """,
)
"""What makes a ledger of each earlier schema one of the next; `schema.sql` is the last."""

_SCHEMA_VERSION: Final = 1 + len(_UPGRADES)
_VERSION_COLUMNS: Final = "api_id, api_name, kind, versions.endpoint, spec, project_id, deployed_at_ns"

_SEGMENTS: Final = "SELECT number, first, count FROM segments WHERE job_id = ? ORDER BY number"


class SqliteLedger(Ledger):
    """A ledger in one file, in WAL mode. A durable commit costs one sync, any other none."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        self._synchronous = ""
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._create_schema(path)
        except sqlite3.DatabaseError as error:
            raise StartRefused(
                f"`{path}` is damaged, or no ledger of cortex: {error}", hint="restore it, or use another --data-dir"
            ) from error

    def _create_schema(self, path: Path) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise StartRefused(
                f"`{path}` was written by a newer version of cortex: its schema is {version},"
                f" this one knows {_SCHEMA_VERSION}",
                hint="upgrade cortex, or use another --data-dir",
            )
        if version == 0:
            schema = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
        else:
            schema = " ".join(_UPGRADES[version - 1 :])
        if version < _SCHEMA_VERSION:
            self._db.executescript(f"BEGIN; {schema} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise disk_full() from error
            raise

    def begin_epoch(self, boot_id: str) -> tuple[int, bool]:
        with self._transaction(durable=True) as db:
            last = db.execute("SELECT epoch, boot_id FROM operator").fetchone()
            epoch = last["epoch"] + 1 if last else 1
            db.execute("REPLACE INTO operator (one, epoch, boot_id) VALUES (1, ?, ?)", (epoch, boot_id))
        return epoch, last is not None and last["boot_id"] != boot_id

    def deploy(self, versions: Sequence[Version]) -> None:
        with self._transaction(durable=True) as db:
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
            _version(row)
            for row in self._db.execute(
                f"SELECT {_VERSION_COLUMNS} FROM versions JOIN apis USING (api_id) ORDER BY name"  # noqa: S608
            )
        ]

    def version(self, api_id: str) -> Version | None:
        query = f"SELECT {_VERSION_COLUMNS} FROM versions WHERE api_id = ?"  # noqa: S608 - a constant
        row = self._db.execute(query, (api_id,)).fetchone()
        return _version(row) if row else None

    def project_ids(self) -> set[str]:
        return {row["project_id"] for row in self._db.execute("SELECT DISTINCT project_id FROM versions")}

    def delete_api(self, api_name: str) -> None:
        with self._transaction(durable=True) as db:
            _forget_jobs(db, "api_name = ?", api_name)
            db.execute("DELETE FROM apis WHERE name = ?", (api_name,))
            db.execute("DELETE FROM versions WHERE api_name = ?", (api_name,))

    def add_job(self, job: Job, segments: Sequence[SegmentRange], key: SubmissionKey | None = None) -> None:
        with self._transaction(durable=True) as db:
            if key is not None:
                check_key(self.keyed_job(job.api_name, key.name))
            db.execute(
                "INSERT INTO jobs (id, api_name, api_id, workers, config, source, batch_size, item_count,"
                " total_batch_count, status, created_at_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    job.api_name,
                    job.api_id,
                    job.workers,
                    None if job.config is None else json.dumps(job.config),
                    None if job.source is None else json.dumps(job.source.to_dict()),
                    job.batch_size,
                    job.item_count,
                    job.total_batch_count,
                    job.status,
                    job.created_at_ns,
                ),
            )
            db.executemany(
                "INSERT INTO segments (job_id, number, first, count) VALUES (?, ?, ?, ?)",
                [(job.id, segment.number, segment.first, segment.count) for segment in segments],
            )
            if key is not None:
                row = (job.api_name, key.name, job.id, key.body_sha256)
                db.execute("INSERT INTO submission_keys VALUES (?, ?, ?, ?)", row)

    def keyed_job(self, api_name: str, key_name: str) -> tuple[Job, SubmissionKey] | None:
        query = "SELECT job_id, body_sha256 FROM submission_keys WHERE api_name = ? AND name = ?"
        row = self._db.execute(query, (api_name, key_name)).fetchone()
        job = self.job(row["job_id"]) if row else None
        return (job, SubmissionKey(name=key_name, body_sha256=row["body_sha256"])) if job else None

    def publish(self, job_id: str, segment: SegmentRange, *, item_count: int, cursor: Mapping[str, Any]) -> Job:
        with self._transaction(durable=False) as db:
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
        return _job(row)

    def cursor(self, job_id: str) -> Mapping[str, Any] | None:
        query = "SELECT cursor FROM segments WHERE job_id = ? ORDER BY number DESC LIMIT 1"
        row = self._db.execute(query, (job_id,)).fetchone()
        return json.loads(row["cursor"]) if row and row["cursor"] is not None else None

    def job(self, job_id: str) -> Job | None:
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row else None

    def jobs(self, api_name: str) -> Sequence[Job]:
        return [_job(row) for row in self._db.execute("SELECT * FROM jobs WHERE api_name = ? ORDER BY id", (api_name,))]

    def newest_job(self, api_name: str) -> Job | None:
        query = "SELECT * FROM jobs WHERE api_name = ? ORDER BY id LIMIT 1"
        row = self._db.execute(query, (api_name,)).fetchone()
        return _job(row) if row else None

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
        with self._transaction(durable=True) as db:
            condition = "id IN (SELECT value FROM json_each(?)) AND ended_at_ns IS NOT NULL"
            _forget_jobs(db, condition, json.dumps(list(job_ids)))
            _forget_unneeded_versions(db)

    def jobs_in_progress(self) -> Sequence[Job]:
        query = "SELECT * FROM jobs WHERE ended_at_ns IS NULL ORDER BY id DESC"
        return [_job(row) for row in self._db.execute(query)]

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
        counts: Counts | None = None,
        busy_seconds: float = 0.0,
    ) -> Job:
        with self._transaction(durable=True) as db:
            job = self.job(job_id)
            check_move(job, job_id, status, counts)
            db.execute(
                "UPDATE jobs SET status = :status, status_reason = coalesce(:reason, status_reason) WHERE id = :id",
                {"id": job_id, "status": status, "reason": reason},
            )
            if status is JobStatus.RUNNING:
                db.execute("UPDATE jobs SET started_at_ns = ? WHERE id = ?", (at_ns, job_id))
            if counts is not None:
                db.execute(
                    "UPDATE jobs SET ended_at_ns = ?, succeeded = ?, failed = ?, in_queue = ?, busy_seconds = ?"
                    " WHERE id = ?",
                    (at_ns, counts.succeeded, counts.failed, counts.in_queue, busy_seconds, job_id),
                )
            row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job(row)

    def start_hook(self, job_id: str, worker: str) -> None:
        with self._transaction(durable=True) as db:
            query = "UPDATE jobs SET hook_worker = ? WHERE id = ? AND hook_worker IS NULL"
            if db.execute(query, (worker, job_id)).rowcount != 1:
                raise ValueError(f"on_job_complete of job {job_id} was started before")

    def add_worker(self, record: WorkerRecord) -> None:
        with self._transaction(durable=False) as db:
            db.execute(
                "INSERT OR IGNORE INTO workers (worker, job_id, supervisor, pid, process_started_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (record.worker, record.job_id, record.supervisor, record.pid, record.process_started_at),
            )

    def end_worker(self, worker: str) -> None:
        with self._transaction(durable=False) as db:
            db.execute("UPDATE workers SET is_gone = 1 WHERE worker = ?", (worker,))

    def workers(self, job_id: str) -> Sequence[WorkerRecord]:
        query = (
            "SELECT worker, job_id, supervisor, pid, process_started_at FROM workers"
            " WHERE job_id = ? AND is_gone = 0 ORDER BY worker"
        )
        return [WorkerRecord(**row) for row in self._db.execute(query, (job_id,))]

    def charge_death(self, job_id: str, batch: int, *, cause: str, out_of_memory: bool) -> Death:
        with self._transaction(durable=False) as db:
            row = db.execute(
                "INSERT INTO deaths VALUES (?, ?, 1, ?, ?) ON CONFLICT (job_id, batch) DO UPDATE"
                " SET deaths = deaths + 1, cause = excluded.cause, out_of_memory = excluded.out_of_memory RETURNING *",
                (job_id, batch, cause, out_of_memory),
            ).fetchone()
        return _death(row)

    def deaths(self, job_id: str) -> Sequence[Death]:
        query = "SELECT * FROM deaths WHERE job_id = ? ORDER BY batch"
        return [_death(row) for row in self._db.execute(query, (job_id,))]

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


def _version(row: sqlite3.Row) -> Version:
    return Version(**{**dict(row), "spec": json.loads(row["spec"])})


def _death(row: sqlite3.Row) -> Death:
    return Death(batch=row["batch"], deaths=row["deaths"], cause=row["cause"], out_of_memory=bool(row["out_of_memory"]))


def _job(row: sqlite3.Row) -> Job:
    fields: dict[str, Any] = dict(row)
    succeeded, failed, in_queue = fields.pop("succeeded"), fields.pop("failed"), fields.pop("in_queue")
    fields["config"] = None if fields["config"] is None else json.loads(fields["config"])
    fields["source"] = None if fields["source"] is None else FileSource.from_dict(json.loads(fields["source"]))
    fields["status"] = JobStatus(fields["status"])
    if succeeded is not None:
        fields["final_counts"] = Counts(succeeded=succeeded, failed=failed, in_queue=in_queue)
    return Job(**fields)
