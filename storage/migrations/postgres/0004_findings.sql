-- What was noticed about more than one log.
CREATE TABLE findings (
    finding_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    kind           text   NOT NULL, -- unusual_session or model_drift
    -- Empty: it is about the whole tenant.
    service        text COLLATE "C" NOT NULL,
    -- The id of a trace or a model, or the name of an instance.
    subject        text COLLATE "C" NOT NULL,
    from_unix_nano bigint NOT NULL,
    to_unix_nano   bigint NOT NULL,
    logs           bigint NOT NULL,
    score          double precision NOT NULL,
    reasons        text   NOT NULL -- JSON
);
CREATE UNIQUE INDEX findings_by_subject ON findings (tenant, kind, service, subject, to_unix_nano);
CREATE INDEX findings_by_time ON findings (tenant, to_unix_nano);
