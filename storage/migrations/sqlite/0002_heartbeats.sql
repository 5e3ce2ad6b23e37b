-- The processes, each of which says every 2 seconds that it lives.
CREATE TABLE heartbeats (
    process_id          TEXT    PRIMARY KEY NOT NULL,
    kind                TEXT    NOT NULL, -- server, processor, standalone or alerting
    host                TEXT    NOT NULL,
    version             TEXT    NOT NULL,
    started_unix_nano   INTEGER NOT NULL,
    -- JSON: of the queue, the numbers that it reads from.
    partitions          TEXT    NOT NULL,
    -- Receive time of what it has committed; none if it commits nothing.
    committed_unix_nano INTEGER,
    load                REAL    NOT NULL,
    beaten_unix_nano    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Batches that processors had and never settled: each is tried alone now, and noted here meanwhile.
CREATE TABLE trials (
    tenant          TEXT    NOT NULL,
    batch_id        BLOB    NOT NULL,
    -- How often it was tried and who tried it ended.
    begun           INTEGER NOT NULL,
    begun_unix_nano INTEGER NOT NULL,
    PRIMARY KEY (tenant, batch_id)
) STRICT, WITHOUT ROWID;
