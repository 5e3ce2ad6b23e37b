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
