-- Who does what one process alone may do.
CREATE TABLE leases (
    name       text COLLATE "C" NOT NULL PRIMARY KEY,
    holder     text        NOT NULL,
    -- Grows with each holder.
    epoch      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Rules, channels, silences and the like.
CREATE TABLE alert_settings (
    tenant text COLLATE "C" NOT NULL,
    kind   text COLLATE "C" NOT NULL,
    name   text COLLATE "C" NOT NULL,
    body   text NOT NULL, -- JSON
    PRIMARY KEY (tenant, kind, name)
);

-- What somebody wants done with an incident.
CREATE TABLE alert_actions (
    action_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant    text COLLATE "C" NOT NULL,
    body      text NOT NULL -- JSON
);

CREATE TABLE incidents (
    tenant             text COLLATE "C" NOT NULL,
    incident_id        text COLLATE "C" NOT NULL,
    state              text   NOT NULL, -- pending, firing, acknowledged or resolved
    service            text COLLATE "C" NOT NULL,
    began_unix_nano    bigint NOT NULL,
    resolved_unix_nano bigint,
    body               text   NOT NULL, -- JSON
    PRIMARY KEY (tenant, incident_id)
);
CREATE INDEX incidents_by_time ON incidents (tenant, began_unix_nano);
CREATE INDEX incidents_open ON incidents (tenant) WHERE resolved_unix_nano IS NULL;

-- One notice for one channel.
CREATE TABLE deliveries (
    delivery_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant            text COLLATE "C" NOT NULL,
    channel           text COLLATE "C" NOT NULL,
    -- The notice's: the same for the same transition of an incident.
    key               text COLLATE "C" NOT NULL,
    incident_id       text COLLATE "C" NOT NULL,
    sequence          bigint NOT NULL,
    created_unix_nano bigint NOT NULL,
    state             text   NOT NULL, -- waiting, sent or given_up
    body              text   NOT NULL, -- JSON
    -- What the channel answered, for later messages about the incident.
    thread            text
);
CREATE UNIQUE INDEX deliveries_by_key ON deliveries (tenant, channel, key);
CREATE INDEX deliveries_by_incident ON deliveries (tenant, incident_id);
CREATE INDEX deliveries_waiting ON deliveries (tenant, channel, delivery_id) WHERE state = 'waiting';

-- What alerting knows of a channel's destination, and of all open incidents.
CREATE TABLE alert_states (
    tenant text COLLATE "C" NOT NULL,
    name   text COLLATE "C" NOT NULL,
    body   text NOT NULL, -- JSON
    PRIMARY KEY (tenant, name)
);

-- Of the patterns, the new ones are asked for all the time.
CREATE INDEX templates_by_first_seen ON templates (tenant, first_seen_unix_nano);
