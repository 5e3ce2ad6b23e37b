-- What was learned from logs, to be loaded by processors; version after version.
CREATE TABLE models (
    -- Never used again after a deletion.
    model_id               INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id              INTEGER NOT NULL,
    kind                   TEXT    NOT NULL, -- isolation_forest
    -- The service that it serves; empty: those of the tenant that have none of their own.
    scope                  TEXT    NOT NULL,
    state                  TEXT    NOT NULL, -- candidate, active or retired
    -- JSON.
    parameters             TEXT    NOT NULL,
    -- Event times of the logs that it was trained on: from inclusive, to exclusive.
    trained_from_unix_nano INTEGER NOT NULL,
    trained_to_unix_nano   INTEGER NOT NULL,
    rows                   INTEGER NOT NULL,
    -- JSON: how its features were distributed, and how it did on its own logs.
    statistics             TEXT    NOT NULL,
    metrics                TEXT    NOT NULL,
    created_unix_nano      INTEGER NOT NULL,
    -- When it was promoted last; none for a candidate.
    activated_unix_nano    INTEGER,
    -- XXH3 of the body.
    checksum               INTEGER NOT NULL,
    body                   BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX models_active ON models (tenant_id, kind, scope) WHERE state = 'active';
CREATE INDEX models_by_scope ON models (tenant_id, kind, scope, model_id);

-- What people said of single logs: the last word of each.
CREATE TABLE feedback (
    tenant_id       INTEGER NOT NULL,
    -- The public id, 56 hexadecimal digits.
    log_id          TEXT    NOT NULL,
    service         TEXT    NOT NULL,
    template_id     INTEGER NOT NULL,
    is_anomaly      INTEGER NOT NULL,
    -- The token that it was said with.
    given_by        TEXT    NOT NULL,
    given_unix_nano INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, log_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX feedback_by_time ON feedback (given_unix_nano);

-- What one process asks of another: taken by one at a time, with the answer.
CREATE TABLE jobs (
    job_id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id         INTEGER NOT NULL,
    -- Of what is to be done once only, however many ask; none otherwise.
    unique_key        TEXT,
    request           TEXT    NOT NULL, -- JSON
    state             TEXT    NOT NULL, -- waiting, taken, done or failed
    created_unix_nano INTEGER NOT NULL,
    -- Until when the process that has taken it is taken to work on it.
    leased_unix_nano  INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    -- JSON if it is done, why not if it failed.
    answer            TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX jobs_by_key ON jobs (tenant_id, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_open ON jobs (job_id) WHERE state IN ('waiting', 'taken');
