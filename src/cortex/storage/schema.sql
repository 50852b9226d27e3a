-- The ledger. The checks repeat what the domain promises, so that no writer can break it.

CREATE TABLE operator (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    boot_id TEXT NOT NULL
) STRICT;

CREATE TABLE versions (
    api_id TEXT PRIMARY KEY,
    api_name TEXT NOT NULL,
    kind TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    spec TEXT NOT NULL,
    project_id TEXT NOT NULL,
    deployed_at_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE apis (
    name TEXT PRIMARY KEY,
    api_id TEXT NOT NULL REFERENCES versions (api_id),
    endpoint TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE jobs (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    api_name TEXT NOT NULL,
    api_id TEXT NOT NULL REFERENCES versions (api_id),
    workers INTEGER NOT NULL CHECK (workers >= 1),
    workers_min INTEGER CHECK (workers_min BETWEEN 1 AND workers), -- NULL where the job is not elastic
    config TEXT,
    source TEXT, -- the files that it is cut from; NULL where the request held the items
    policy TEXT, -- NULL where nothing was asked for
    output TEXT, -- where its results are written besides
    rerun_of TEXT,
    origin TEXT,
    batch_size INTEGER NOT NULL CHECK (batch_size >= 1),
    item_count INTEGER NOT NULL,
    total_batch_count INTEGER NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    created_at_ns INTEGER NOT NULL,
    started_at_ns INTEGER,
    ended_at_ns INTEGER,
    ending TEXT, -- what a job that is stopping will be
    hook_worker TEXT,
    succeeded INTEGER,
    failed INTEGER,
    in_queue INTEGER,
    succeeded_items INTEGER NOT NULL DEFAULT 0,
    failed_items INTEGER NOT NULL DEFAULT 0,
    busy_seconds REAL NOT NULL DEFAULT 0,
    CHECK ((ended_at_ns IS NULL) = (succeeded IS NULL)),
    CHECK (succeeded IS NULL OR succeeded + failed + in_queue = total_batch_count)
) STRICT;

CREATE INDEX jobs_by_api ON jobs (api_name, id);
CREATE INDEX jobs_in_progress ON jobs (id) WHERE ended_at_ns IS NULL;
CREATE INDEX jobs_by_version ON jobs (api_id);
CREATE INDEX jobs_ended ON jobs (api_name, ended_at_ns DESC, id) WHERE ended_at_ns IS NOT NULL;
CREATE INDEX jobs_by_end ON jobs (ended_at_ns, id) WHERE ended_at_ns IS NOT NULL;

-- No id is ever given twice, so the newest one is remembered when its job is not.
CREATE TABLE forgotten (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    newest_job_id TEXT NOT NULL
) STRICT;

CREATE TABLE segments (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 1),
    cursor TEXT, -- where in its source the next segment begins
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE submission_keys (
    api_name TEXT NOT NULL,
    name TEXT NOT NULL,
    job_id TEXT NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
    body_sha256 TEXT NOT NULL CHECK (length(body_sha256) = 64),
    PRIMARY KEY (api_name, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    worker TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    supervisor TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started_at REAL NOT NULL,
    is_gone INTEGER NOT NULL DEFAULT 0 CHECK (is_gone IN (0, 1))
) STRICT;

CREATE INDEX workers_by_job ON workers (job_id);

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

-- Files of jobs that may not be on the disk yet: written again after a power cut, forgotten once they are.
CREATE TABLE unsynced (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL, -- in the order in which they were written down, of all jobs
    name TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (job_id, number)
) STRICT, WITHOUT ROWID;
