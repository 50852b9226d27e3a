"""What an SQLite ledger of an earlier schema needs to be one of this one."""

from typing import Final

UPGRADES: Final = (
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
    """
    ALTER TABLE jobs ADD COLUMN policy TEXT;
    ALTER TABLE jobs ADD COLUMN output TEXT;
    ALTER TABLE jobs ADD COLUMN rerun_of TEXT;
    ALTER TABLE jobs ADD COLUMN origin TEXT;
    ALTER TABLE jobs ADD COLUMN ending TEXT;
    ALTER TABLE jobs ADD COLUMN succeeded_items INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN failed_items INTEGER NOT NULL DEFAULT 0;
    UPDATE jobs SET ending = 'status_stopped' WHERE status = 'status_stopping';
    UPDATE jobs SET failed_items = min(failed * batch_size, item_count),
        succeeded_items = min(succeeded * batch_size, item_count - min(failed * batch_size, item_count))
        WHERE ended_at_ns IS NOT NULL;
    ALTER TABLE deaths RENAME TO deaths_of_batches;
    CREATE TABLE deaths (
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        batch INTEGER NOT NULL,
        first_item INTEGER NOT NULL,
        end_item INTEGER NOT NULL,
        deaths INTEGER NOT NULL,
        timeouts INTEGER NOT NULL,
        cause TEXT NOT NULL,
        kind TEXT NOT NULL,
        PRIMARY KEY (job_id, batch, first_item, end_item),
        CHECK (first_item < end_item AND deaths + timeouts >= 1)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO deaths SELECT job_id, batch, 0, max(1, min(batch_size, item_count - batch * batch_size)), deaths, 0,
        cause, iif(out_of_memory, 'out_of_memory', 'died') FROM deaths_of_batches JOIN jobs ON jobs.id = job_id;
    DROP TABLE deaths_of_batches;
    """,
    """
    CREATE TABLE unsynced (
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (job_id, number)
    ) STRICT, WITHOUT ROWID;
    """,
    "ALTER TABLE jobs ADD COLUMN workers_min INTEGER CHECK (workers_min BETWEEN 1 AND workers);",
)
"""What makes a ledger of each earlier schema one of the next; `schema.sql` is the last."""

SCHEMA_VERSION: Final = 1 + len(UPGRADES)
