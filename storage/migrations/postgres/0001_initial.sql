-- The schema in PostgreSQL, version 1. An interface: people may read these tables, with psql or with
-- Grafana. All of them lie in the first schema of the search path, `public` unless somebody chose another.
--
-- Columns ending in _at are timestamptz. Those ending in _unix_nano are nanoseconds since 1970-01-01
-- UTC, kept where a microsecond is too coarse: to_timestamp(x / 1e9) shows them. Levels are 1 TRACE,
-- 2 DEBUG, 3 INFO, 4 WARN, 5 ERROR, 6 FATAL; 5 and 6 are errors. Template ids, checksums, sequences and
-- counters of producers are 64 bits without a sign, held as the signed number of the same bits:
-- lpad(to_hex(template_id), 16, '0') is a template's public id. Text cannot hold U+0000 here: it is
-- shown as U+FFFD, and where it has to come back exactly another column keeps it. Names sort by their
-- bytes.

-- One row.
CREATE TABLE schema_version (
    -- The last migration applied.
    version         integer     NOT NULL,
    -- How `logs` is laid out: 'timescaledb' (a hypertable) or 'partitions' (one for each day).
    layout          text        NOT NULL,
    -- Logs of earlier days lie in one partition, logs_backfill; means nothing in a hypertable.
    backfill_before timestamptz NOT NULL
);

-- The logs. Nothing is unique here: the ledger makes delivery once. Ordered and paged by time, time_nanos,
-- batch_id, record_index, which together are the public id: 16 hexadecimal digits of the time in
-- nanoseconds, 32 of the batch, 8 of the index.
CREATE TABLE logs (
    -- Event time, and the nanoseconds of it below a microsecond, 0 to 999.
    time            timestamptz      NOT NULL,
    -- When the server received it, and its nanoseconds below a microsecond.
    received_at     timestamptz      NOT NULL,
    template_id     bigint           NOT NULL,
    latency_ms      double precision,
    batch_id        uuid             NOT NULL,
    -- Position in the batch as sent.
    record_index    integer          NOT NULL,
    -- 0 is usual, 1 was never seen.
    anomaly_score   real             NOT NULL,
    time_nanos      smallint         NOT NULL,
    received_nanos  smallint         NOT NULL,
    level           smallint         NOT NULL,
    -- The level that the sender gave; none if the level was derived.
    level_sent      smallint,
    -- OpenTelemetry's 1 to 24 as sent; 0 for none.
    severity_number smallint         NOT NULL,
    is_anomaly      boolean          NOT NULL,
    tenant          text COLLATE "C"             NOT NULL,
    service         text COLLATE "C"             NOT NULL,
    instance        text             NOT NULL,
    environment     text             NOT NULL,
    logger          text             NOT NULL,
    message         text             NOT NULL,
    -- 16 and 8 bytes.
    trace_id        bytea,
    span_id         bytea,
    -- In a person's words; none unless it is an anomaly.
    anomaly_reasons text[],
    -- A JSON object, names and nested values as sent: attributes->>'user_id'. None without attributes.
    attributes      json,
    -- The texts and attributes again, in a coding of this program, where the columns above cannot hold
    -- them: U+0000, numbers that are not finite, JSON that is none. None in all other logs.
    exact           bytea
);

-- The ledger: every batch committed in the last 48 hours (configurable). It makes delivery once.
CREATE TABLE batches (
    tenant        text COLLATE "C"        NOT NULL,
    batch_id      uuid        NOT NULL,
    -- Of the content as sent.
    checksum      bigint      NOT NULL,
    committed_at  timestamptz NOT NULL,
    producer_id   uuid,
    sequence      bigint,
    stored        integer     NOT NULL,
    dead_lettered integer     NOT NULL,
    PRIMARY KEY (tenant, batch_id)
);
CREATE INDEX batches_by_commit ON batches (committed_at);

-- The producers' accounts, kept for 90 days after the last batch.
CREATE TABLE producers (
    tenant                  text COLLATE "C"   NOT NULL,
    producer_id             uuid   NOT NULL,
    service                 text COLLATE "C"   NOT NULL,
    instance                text   NOT NULL,
    sdk                     text   NOT NULL,
    -- The highest sequence committed, and what the producer said with it.
    sequence                bigint NOT NULL,
    emitted                 bigint NOT NULL,
    dropped                 text   NOT NULL, -- JSON: [["reason", count], …]
    rejected_seen           bigint NOT NULL,
    queued                  bigint NOT NULL,
    spooled                 bigint NOT NULL,
    -- Its logs that are stored, and that went to the dead letters.
    stored                  bigint NOT NULL,
    dead_lettered           bigint NOT NULL,
    -- Sequences committed, and those of them whose ledger entry is gone. Ranges in ascending order,
    -- each two LEB128 numbers: how far it begins after the end of the one before, its length less one.
    -- A first range that begins with 0 stands for numbers of which it is forgotten.
    committed_sequences     bytea  NOT NULL,
    folded_sequences        bytea  NOT NULL,
    last_received_unix_nano bigint NOT NULL,
    PRIMARY KEY (tenant, producer_id)
);
CREATE INDEX producers_by_last_received ON producers (last_received_unix_nano);

-- The services that have stored logs, with their totals. They outlive the logs.
CREATE TABLE services (
    tenant               text COLLATE "C"   NOT NULL,
    service              text COLLATE "C"   NOT NULL,
    total                bigint NOT NULL,
    errors               bigint NOT NULL,
    anomalies            bigint NOT NULL,
    -- Start of the oldest hour that has a log, and the event time of the newest log.
    first_seen_unix_nano bigint NOT NULL,
    last_seen_unix_nano  bigint NOT NULL,
    PRIMARY KEY (tenant, service)
) WITH (fillfactor = 50);

-- Logs per service and level in 10 seconds (width_seconds 10) and in an hour (3600), by event time.
CREATE TABLE service_buckets (
    start_at      timestamptz NOT NULL,
    total         bigint      NOT NULL,
    anomalies     bigint      NOT NULL,
    width_seconds integer     NOT NULL,
    level         smallint    NOT NULL,
    tenant        text COLLATE "C"        NOT NULL,
    service       text COLLATE "C"        NOT NULL,
    PRIMARY KEY (tenant, width_seconds, start_at, service, level)
) WITH (fillfactor = 70);

-- Latencies per service in the same buckets of time; logs without a latency do not count here.
CREATE TABLE latency_buckets (
    start_at      timestamptz      NOT NULL,
    count         bigint           NOT NULL,
    sum_ms        double precision NOT NULL,
    min_ms        double precision NOT NULL,
    max_ms        double precision NOT NULL,
    width_seconds integer          NOT NULL,
    tenant        text COLLATE "C"             NOT NULL,
    service       text COLLATE "C"             NOT NULL,
    -- Logs per latency bucket n, which holds 1.1^n to 1.1^(n+1) milliseconds: the numbers, ascending, and
    -- the logs of each. The view latency_counts has a row for each.
    buckets       smallint[]       NOT NULL,
    counts        bigint[]         NOT NULL,
    PRIMARY KEY (tenant, width_seconds, start_at, service)
) WITH (fillfactor = 70);

CREATE VIEW latency_counts AS
    SELECT tenant, service, width_seconds, start_at, n.bucket, n.count,
           1.1::double precision ^ n.bucket AS from_ms, 1.1::double precision ^ (n.bucket + 1) AS to_ms
    FROM latency_buckets l, unnest(l.buckets, l.counts) AS n (bucket, count);

-- The patterns of messages with their totals. They outlive the logs.
CREATE TABLE templates (
    template_id          bigint   NOT NULL,
    total                bigint   NOT NULL,
    first_seen_unix_nano bigint   NOT NULL,
    last_seen_unix_nano  bigint   NOT NULL,
    -- The highest seen.
    level                smallint NOT NULL,
    tenant               text COLLATE "C"     NOT NULL,
    service              text COLLATE "C"     NOT NULL,
    pattern              text     NOT NULL,
    -- The pattern's bytes where it has U+0000.
    pattern_exact        bytea,
    PRIMARY KEY (tenant, template_id)
) WITH (fillfactor = 70);

-- Logs per template and hour (width_seconds 3600); of errors also per 10 seconds (10).
CREATE TABLE template_buckets (
    start_at      timestamptz NOT NULL,
    template_id   bigint      NOT NULL,
    total         bigint      NOT NULL,
    errors        bigint      NOT NULL,
    anomalies     bigint      NOT NULL,
    width_seconds integer     NOT NULL,
    tenant        text COLLATE "C"        NOT NULL,
    PRIMARY KEY (tenant, width_seconds, start_at, template_id)
) WITH (fillfactor = 70);

-- Logs that could not be stored.
CREATE TABLE dead_letters (
    -- Never used again: the id of a replay derives from it.
    dead_letter_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant             text COLLATE "C"    NOT NULL,
    created_unix_nano  bigint  NOT NULL,
    batch_id           uuid    NOT NULL,
    -- Position in the batch.
    record_index       integer NOT NULL,
    -- Protobuf: logweir.v1.Resource and logweir.v1.LogRecord.
    resource           bytea   NOT NULL,
    record             bytea   NOT NULL,
    reason             text    NOT NULL,
    detail             text    NOT NULL,
    replayed_unix_nano bigint
);
CREATE INDEX dead_letters_by_tenant ON dead_letters (tenant, dead_letter_id);

-- Issued tokens, without their secrets.
CREATE TABLE tokens (
    tenant            text COLLATE "C"   NOT NULL,
    token_id          text COLLATE "C"   NOT NULL,
    service           text COLLATE "C"   NOT NULL, -- or *
    role              text   NOT NULL,
    issued_unix_nano  bigint NOT NULL,
    expires_unix_nano bigint NOT NULL,
    revoked_unix_nano bigint,
    PRIMARY KEY (tenant, token_id)
);
CREATE INDEX tokens_revoked ON tokens (expires_unix_nano) WHERE revoked_unix_nano IS NOT NULL;

-- Versions going live.
CREATE TABLE deploys (
    tenant         text COLLATE "C"   NOT NULL,
    time_unix_nano bigint NOT NULL,
    service        text COLLATE "C"   NOT NULL,
    version        text COLLATE "C"   NOT NULL,
    note           text   NOT NULL,
    PRIMARY KEY (tenant, time_unix_nano, service, version)
);

-- The processes, each of which says every 2 seconds that it lives.
CREATE TABLE heartbeats (
    process_id          text COLLATE "C"             PRIMARY KEY,
    kind                text             NOT NULL, -- server, processor, standalone or alerting
    host                text             NOT NULL,
    version             text COLLATE "C"             NOT NULL,
    started_unix_nano   bigint           NOT NULL,
    -- Of the queue, that it reads from.
    partitions          integer[]        NOT NULL,
    -- Receive time of what it has committed; none if it commits nothing.
    committed_unix_nano bigint,
    load                double precision NOT NULL,
    -- By the database's clock.
    beaten_at           timestamptz      NOT NULL
);

-- Batches that processors had and never settled: each is tried alone now, and noted here meanwhile.
CREATE TABLE trials (
    tenant   text COLLATE "C" NOT NULL,
    batch_id uuid             NOT NULL,
    -- How often it was tried and who tried it ended.
    begun    integer          NOT NULL,
    begun_at timestamptz      NOT NULL,
    PRIMARY KEY (tenant, batch_id)
);
