-- Who does what one process alone may do.
CREATE TABLE leases (
    name              TEXT    NOT NULL PRIMARY KEY,
    holder            TEXT    NOT NULL,
    -- Grows with each holder.
    epoch             INTEGER NOT NULL,
    expires_unix_nano INTEGER NOT NULL
) STRICT;

-- Rules, channels, silences and the like.
CREATE TABLE alert_settings (
    tenant_id INTEGER NOT NULL,
    kind      TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    body      TEXT    NOT NULL, -- JSON
    PRIMARY KEY (tenant_id, kind, name)
) STRICT, WITHOUT ROWID;

-- What somebody wants done with an incident.
CREATE TABLE alert_actions (
    action_id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id INTEGER NOT NULL,
    body      TEXT    NOT NULL -- JSON
) STRICT;

CREATE TABLE incidents (
    tenant_id          INTEGER NOT NULL,
    incident_id        TEXT    NOT NULL,
    state              TEXT    NOT NULL, -- pending, firing, acknowledged or resolved
    service            TEXT    NOT NULL,
    began_unix_nano    INTEGER NOT NULL,
    resolved_unix_nano INTEGER,
    body               TEXT    NOT NULL, -- JSON
    PRIMARY KEY (tenant_id, incident_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_by_time ON incidents (tenant_id, began_unix_nano);
CREATE INDEX incidents_open ON incidents (tenant_id) WHERE resolved_unix_nano IS NULL;

-- One notice for one channel.
CREATE TABLE deliveries (
    delivery_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id         INTEGER NOT NULL,
    channel           TEXT    NOT NULL,
    -- The notice's: the same for the same transition of an incident.
    key               TEXT    NOT NULL,
    incident_id       TEXT    NOT NULL,
    sequence          INTEGER NOT NULL,
    created_unix_nano INTEGER NOT NULL,
    state             TEXT    NOT NULL, -- waiting, sent or given_up
    body              TEXT    NOT NULL, -- JSON
    -- What the channel answered, for later messages about the incident.
    thread            TEXT
) STRICT;
CREATE UNIQUE INDEX deliveries_by_key ON deliveries (tenant_id, channel, key);
CREATE INDEX deliveries_by_incident ON deliveries (tenant_id, incident_id);
CREATE INDEX deliveries_waiting ON deliveries (tenant_id, channel, delivery_id) WHERE state = 'waiting';

-- What alerting knows of a channel's destination, and of all open incidents.
CREATE TABLE alert_states (
    tenant_id INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    body      TEXT    NOT NULL, -- JSON
    PRIMARY KEY (tenant_id, name)
) STRICT, WITHOUT ROWID;

-- Of the patterns, the new ones are asked for all the time.
CREATE INDEX template_totals_by_first_seen ON template_totals (first_seen_unix_nano);
