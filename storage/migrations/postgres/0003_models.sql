-- What was learned from logs, to be loaded by processors; version after version.
CREATE TABLE models (
    -- Never used again after a deletion.
    model_id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant                 text COLLATE "C" NOT NULL,
    kind                   text   NOT NULL, -- isolation_forest
    -- The service that it serves; empty: those of the tenant that have none of their own.
    scope                  text COLLATE "C" NOT NULL,
    state                  text   NOT NULL, -- candidate, active or retired
    -- JSON.
    parameters             text   NOT NULL,
    -- Event times of the logs that it was trained on: from inclusive, to exclusive.
    trained_from_unix_nano bigint NOT NULL,
    trained_to_unix_nano   bigint NOT NULL,
    rows                   bigint NOT NULL,
    -- JSON: how its features were distributed, and how it did on its own logs.
    statistics             text   NOT NULL,
    metrics                text   NOT NULL,
    created_unix_nano      bigint NOT NULL,
    -- When it was promoted last; none for a candidate.
    activated_unix_nano    bigint,
    -- XXH3 of the body.
    checksum               bigint NOT NULL,
    body                   bytea  NOT NULL
);
CREATE UNIQUE INDEX models_active ON models (tenant, kind, scope) WHERE state = 'active';
CREATE INDEX models_by_scope ON models (tenant, kind, scope, model_id);

-- What people said of single logs: the last word of each.
CREATE TABLE feedback (
    tenant          text COLLATE "C" NOT NULL,
    -- The public id, 56 hexadecimal digits.
    log_id          text COLLATE "C" NOT NULL,
    service         text COLLATE "C" NOT NULL,
    template_id     bigint  NOT NULL,
    is_anomaly      boolean NOT NULL,
    -- The token that it was said with.
    given_by        text    NOT NULL,
    given_unix_nano bigint  NOT NULL,
    PRIMARY KEY (tenant, log_id)
);
CREATE INDEX feedback_by_time ON feedback (given_unix_nano);

-- What one process asks of another: taken by one at a time, with the answer.
CREATE TABLE jobs (
    job_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant            text COLLATE "C" NOT NULL,
    -- Of what is to be done once only, however many ask; none otherwise.
    unique_key        text COLLATE "C",
    request           text    NOT NULL, -- JSON
    state             text    NOT NULL, -- waiting, taken, done or failed
    created_unix_nano bigint  NOT NULL,
    -- Until when the process that has taken it is taken to work on it.
    leased_unix_nano  bigint  NOT NULL,
    attempts          integer NOT NULL,
    -- JSON if it is done, why not if it failed.
    answer            text    NOT NULL
);
CREATE UNIQUE INDEX jobs_by_key ON jobs (tenant, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_open ON jobs (job_id) WHERE state IN ('waiting', 'taken');
