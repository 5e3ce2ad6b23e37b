-- The schema of logweir.db, version 1. An interface: people may read these tables (open the file
-- read-only). Times ending in _unix_nano are nanoseconds since 1970-01-01 UTC, those ending in
-- _unix_seconds are seconds. Levels are 1 TRACE, 2 DEBUG, 3 INFO, 4 WARN, 5 ERROR, 6 FATAL; 5 and 6
-- are errors. Ids of tenants, services and templates are small numbers that mean something in this
-- file only. 64-bit hashes and counters of producers are stored as the signed number of the same bits.

-- Whom everything belongs to.
CREATE TABLE tenants (
    tenant_id INTEGER PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE
) STRICT;

-- The services that have stored logs, with their totals. They outlive the logs.
CREATE TABLE services (
    service_id             INTEGER PRIMARY KEY,
    tenant_id              INTEGER NOT NULL,
    name                   TEXT    NOT NULL,
    total                  INTEGER NOT NULL DEFAULT 0,
    errors                 INTEGER NOT NULL DEFAULT 0,
    anomalies              INTEGER NOT NULL DEFAULT 0,
    -- Start of the oldest hour that has a log, and the event time of the newest log.
    first_seen_unix_nano   INTEGER NOT NULL DEFAULT 9223372036854775807,
    last_seen_unix_nano    INTEGER NOT NULL DEFAULT -9223372036854775808,
    UNIQUE (tenant_id, name)
) STRICT;

-- The ledger: every batch committed in the last 48 hours (configurable). It makes delivery once.
CREATE TABLE batches (
    -- Ascending in order of commit.
    entry_id               INTEGER PRIMARY KEY,
    tenant_id              INTEGER NOT NULL,
    batch_id               BLOB    NOT NULL,
    -- Of the content as sent.
    checksum               INTEGER NOT NULL,
    committed_unix_seconds INTEGER NOT NULL,
    producer_key           INTEGER,
    sequence               INTEGER,
    stored                 INTEGER NOT NULL,
    dead_lettered          INTEGER NOT NULL,
    UNIQUE (tenant_id, batch_id)
) STRICT;

-- The producers' accounts, kept for 90 days after the last batch.
CREATE TABLE producers (
    -- Never used again: the ledger refers to it.
    producer_key            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id               INTEGER NOT NULL,
    producer_id             BLOB    NOT NULL,
    service                 TEXT    NOT NULL,
    instance                TEXT    NOT NULL,
    sdk                     TEXT    NOT NULL,
    -- The highest sequence committed, and what the producer said with it.
    sequence                INTEGER NOT NULL,
    emitted                 INTEGER NOT NULL,
    dropped                 TEXT    NOT NULL, -- JSON: [["reason", count], …]
    rejected_seen           INTEGER NOT NULL,
    queued                  INTEGER NOT NULL,
    spooled                 INTEGER NOT NULL,
    -- Its logs that are stored, and that went to the dead letters.
    stored                  INTEGER NOT NULL,
    dead_lettered           INTEGER NOT NULL,
    -- Sequences committed, and those of them whose ledger entry is gone. Ranges in ascending order,
    -- each two LEB128 numbers: how far it begins after the end of the one before, its length less one.
    -- A first range that begins with 0 stands for numbers of which it is forgotten.
    committed_sequences     BLOB    NOT NULL,
    folded_sequences        BLOB    NOT NULL,
    last_received_unix_nano INTEGER NOT NULL,
    UNIQUE (tenant_id, producer_id)
) STRICT;
CREATE INDEX producers_by_last_received ON producers (last_received_unix_nano);

-- The logs, in compressed column blocks. A block holds logs of one tenant, sorted by service.
CREATE TABLE blocks (
    -- Never used again after a deletion.
    block_id           INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id          INTEGER NOT NULL,
    -- How often its logs have been merged; 0 as written.
    generation         INTEGER NOT NULL,
    logs               INTEGER NOT NULL,
    -- Of messages, loggers and attributes, before compression.
    text_bytes         INTEGER NOT NULL,
    -- Of body and word filter.
    disk_bytes         INTEGER NOT NULL,
    -- When it was written or merged.
    made_unix_seconds  INTEGER NOT NULL,
    time_min_unix_nano INTEGER NOT NULL,
    time_max_unix_nano INTEGER NOT NULL,
    -- Bit n is set if a log of level n occurs, bit 7 if an anomaly does.
    content_mask       INTEGER NOT NULL,
    -- 1 if it is not to be merged any more.
    is_settled         INTEGER NOT NULL
) STRICT;
CREATE INDEX blocks_newest ON blocks (tenant_id, time_max_unix_nano, time_min_unix_nano, content_mask);
CREATE INDEX blocks_oldest ON blocks (tenant_id, time_min_unix_nano, time_max_unix_nano, content_mask);
CREATE INDEX blocks_by_end ON blocks (time_max_unix_nano);
CREATE INDEX blocks_unsettled ON blocks (tenant_id, block_id) WHERE is_settled = 0;

-- What each block holds of each service.
CREATE TABLE block_services (
    block_id           INTEGER NOT NULL,
    service_id         INTEGER NOT NULL,
    logs               INTEGER NOT NULL,
    time_min_unix_nano INTEGER NOT NULL,
    time_max_unix_nano INTEGER NOT NULL,
    content_mask       INTEGER NOT NULL,
    PRIMARY KEY (block_id, service_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_services_newest
    ON block_services (service_id, time_max_unix_nano, time_min_unix_nano, content_mask);
CREATE INDEX block_services_oldest
    ON block_services (service_id, time_min_unix_nano, time_max_unix_nano, content_mask);

-- Of each block: a Bloom filter over the words, templates and traces in it.
CREATE TABLE block_words (
    block_id INTEGER PRIMARY KEY,
    words    BLOB NOT NULL
) STRICT;

-- Of each block: the logs themselves.
CREATE TABLE block_bodies (
    block_id INTEGER PRIMARY KEY,
    body     BLOB NOT NULL
) STRICT;

-- Logs per service and level in 10 seconds (width_seconds 10) and in an hour (3600), by event time.
CREATE TABLE service_buckets (
    width_seconds      INTEGER NOT NULL,
    start_unix_seconds INTEGER NOT NULL,
    service_id         INTEGER NOT NULL,
    level              INTEGER NOT NULL,
    total              INTEGER NOT NULL,
    anomalies          INTEGER NOT NULL,
    PRIMARY KEY (width_seconds, start_unix_seconds, service_id, level)
) STRICT, WITHOUT ROWID;

-- Latencies per service in the same buckets of time; logs without a latency do not count here.
CREATE TABLE latency_buckets (
    width_seconds      INTEGER NOT NULL,
    start_unix_seconds INTEGER NOT NULL,
    service_id         INTEGER NOT NULL,
    count              INTEGER NOT NULL,
    sum_ms             REAL    NOT NULL,
    min_ms             REAL    NOT NULL,
    max_ms             REAL    NOT NULL,
    -- Logs per latency bucket n, which holds 1.1^n to 1.1^(n+1) milliseconds. In ascending order,
    -- each two LEB128 numbers: n less the one before (the first: less -145), and the logs.
    counts             BLOB    NOT NULL,
    PRIMARY KEY (width_seconds, start_unix_seconds, service_id)
) STRICT, WITHOUT ROWID;

-- The patterns of messages.
CREATE TABLE templates (
    template_key INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL,
    -- The public id, a 64-bit hash.
    template_id  INTEGER NOT NULL,
    service_id   INTEGER NOT NULL,
    pattern      TEXT    NOT NULL,
    UNIQUE (tenant_id, template_id)
) STRICT;

-- The totals of each pattern: apart from it, because they change with every write.
CREATE TABLE template_totals (
    template_key         INTEGER PRIMARY KEY,
    total                INTEGER NOT NULL,
    -- The highest seen.
    level                INTEGER NOT NULL,
    first_seen_unix_nano INTEGER NOT NULL,
    last_seen_unix_nano  INTEGER NOT NULL
) STRICT;

-- Logs per template and hour (width_seconds 3600); of errors also per 10 seconds (10).
CREATE TABLE template_buckets (
    width_seconds      INTEGER NOT NULL,
    start_unix_seconds INTEGER NOT NULL,
    template_key       INTEGER NOT NULL,
    total              INTEGER NOT NULL,
    errors             INTEGER NOT NULL,
    anomalies          INTEGER NOT NULL,
    PRIMARY KEY (width_seconds, start_unix_seconds, template_key)
) STRICT, WITHOUT ROWID;

-- Logs that could not be stored.
CREATE TABLE dead_letters (
    -- Never used again: the id of a replay derives from it.
    dead_letter_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id          INTEGER NOT NULL,
    created_unix_nano  INTEGER NOT NULL,
    batch_id           BLOB    NOT NULL,
    -- Position in the batch.
    record_index       INTEGER NOT NULL,
    -- Protobuf: logweir.v1.Resource and logweir.v1.LogRecord.
    resource           BLOB    NOT NULL,
    record             BLOB    NOT NULL,
    reason             TEXT    NOT NULL,
    detail             TEXT    NOT NULL,
    replayed_unix_nano INTEGER
) STRICT;
CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant_id, dead_letter_id);

-- Issued tokens, without their secrets.
CREATE TABLE tokens (
    tenant_id         INTEGER NOT NULL,
    token_id          TEXT    NOT NULL,
    service           TEXT    NOT NULL, -- or *
    role              TEXT    NOT NULL,
    issued_unix_nano  INTEGER NOT NULL,
    expires_unix_nano INTEGER NOT NULL,
    revoked_unix_nano INTEGER,
    PRIMARY KEY (tenant_id, token_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_revoked ON tokens (expires_unix_nano) WHERE revoked_unix_nano IS NOT NULL;

-- Versions going live.
CREATE TABLE deploys (
    tenant_id      INTEGER NOT NULL,
    time_unix_nano INTEGER NOT NULL,
    service        TEXT    NOT NULL,
    version        TEXT    NOT NULL,
    note           TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, time_unix_nano, service, version)
) STRICT, WITHOUT ROWID;
