-- What was noticed about more than one log.
CREATE TABLE findings (
    finding_id     INTEGER PRIMARY KEY,
    tenant_id      INTEGER NOT NULL,
    kind           TEXT    NOT NULL, -- unusual_session or model_drift
    -- Empty: it is about the whole tenant.
    service        TEXT    NOT NULL,
    -- The id of a trace or a model, or the name of an instance.
    subject        TEXT    NOT NULL,
    from_unix_nano INTEGER NOT NULL,
    to_unix_nano   INTEGER NOT NULL,
    logs           INTEGER NOT NULL,
    score          REAL    NOT NULL,
    reasons        TEXT    NOT NULL -- JSON
) STRICT;
CREATE UNIQUE INDEX findings_by_subject ON findings (tenant_id, kind, service, subject, to_unix_nano);
CREATE INDEX findings_by_time ON findings (tenant_id, to_unix_nano);
