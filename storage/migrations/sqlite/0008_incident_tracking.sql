-- What the leader remembers of an incident lies beside it. Empty series: nobody follows it.
ALTER TABLE incidents ADD COLUMN series TEXT NOT NULL DEFAULT '';
ALTER TABLE incidents ADD COLUMN breach_since_unix_nano INTEGER; -- none while only doubted
ALTER TABLE incidents ADD COLUMN last_breach_unix_nano INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN notified_unix_nano INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN notified_severity TEXT NOT NULL DEFAULT 'warning';
ALTER TABLE incidents ADD COLUMN reminders INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN is_changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE incidents ADD COLUMN is_closed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE incidents ADD COLUMN keep_firing_seconds INTEGER NOT NULL DEFAULT 0;

-- What is over counts for how often its series fired lately.
UPDATE incidents SET series = json_extract(body, '$.rule') || char(31) || service
WHERE resolved_unix_nano IS NOT NULL AND json_extract(body, '$.rule') IS NOT NULL;

-- Until now all that a tenant's leader remembered was one text.
INSERT INTO incidents (tenant_id, incident_id, state, service, began_unix_nano, resolved_unix_nano,
    body, series, breach_since_unix_nano, last_breach_unix_nano, sequence, notified_unix_nano,
    notified_severity, reminders, is_changed, is_closed, keep_firing_seconds)
SELECT s.tenant_id, t.key, json_extract(t.value, '$.incident.state'),
    json_extract(t.value, '$.incident.service'), json_extract(t.value, '$.incident.pending_unix_nano'),
    iif(json_extract(t.value, '$.incident.state') = 'resolved',
        json_extract(t.value, '$.incident.resolved_unix_nano'), NULL),
    json_extract(t.value, '$.incident'), json_extract(t.value, '$.key'),
    json_extract(t.value, '$.breach_since_unix_nano'),
    json_extract(t.value, '$.last_breach_unix_nano'), json_extract(t.value, '$.sequence'),
    json_extract(t.value, '$.last_told_unix_nano'), json_extract(t.value, '$.told_severity'),
    json_extract(t.value, '$.reminders'), json_extract(t.value, '$.is_changed'),
    json_extract(t.value, '$.is_closed'), json_extract(t.value, '$.keep_firing_seconds')
FROM alert_states s, json_each(s.body, '$.tracked') t
WHERE s.name = 'keeper'
ON CONFLICT (tenant_id, incident_id) DO UPDATE SET state = excluded.state,
    resolved_unix_nano = excluded.resolved_unix_nano, body = excluded.body,
    series = excluded.series, breach_since_unix_nano = excluded.breach_since_unix_nano,
    last_breach_unix_nano = excluded.last_breach_unix_nano, sequence = excluded.sequence,
    notified_unix_nano = excluded.notified_unix_nano,
    notified_severity = excluded.notified_severity, reminders = excluded.reminders,
    is_changed = excluded.is_changed, is_closed = excluded.is_closed,
    keep_firing_seconds = excluded.keep_firing_seconds;

-- What alerting knows of a channel's destination.
CREATE TABLE channel_states (
    tenant_id INTEGER NOT NULL,
    channel   TEXT    NOT NULL,
    body      TEXT    NOT NULL, -- JSON
    PRIMARY KEY (tenant_id, channel)
) STRICT, WITHOUT ROWID;
INSERT INTO channel_states (tenant_id, channel, body)
SELECT tenant_id, substr(name, length('channel:') + 1), body FROM alert_states
WHERE name LIKE 'channel:%';
DROP TABLE alert_states;
