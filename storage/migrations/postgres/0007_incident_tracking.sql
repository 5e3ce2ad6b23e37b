-- What the leader remembers of an incident lies beside it. Empty series: nobody follows it.
ALTER TABLE incidents
    ADD COLUMN series text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN breach_since_unix_nano bigint, -- none while only doubted
    ADD COLUMN last_breach_unix_nano bigint NOT NULL DEFAULT 0,
    ADD COLUMN sequence bigint NOT NULL DEFAULT 0,
    ADD COLUMN notified_unix_nano bigint NOT NULL DEFAULT 0,
    ADD COLUMN notified_severity text NOT NULL DEFAULT 'warning',
    ADD COLUMN reminders bigint NOT NULL DEFAULT 0,
    ADD COLUMN is_changed boolean NOT NULL DEFAULT false,
    ADD COLUMN is_closed boolean NOT NULL DEFAULT true,
    ADD COLUMN keep_firing_seconds bigint NOT NULL DEFAULT 0;

-- PostgreSQL reads no JSON that has the character 0 in it, which logs may bring along.
CREATE FUNCTION pg_temp.readable(body text) RETURNS json LANGUAGE sql IMMUTABLE AS
    $$SELECT regexp_replace(body, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g')::json$$;

-- What is over counts for how often its series fired lately.
UPDATE incidents SET series = (pg_temp.readable(body) ->> 'rule') || chr(31) || service
WHERE resolved_unix_nano IS NOT NULL AND pg_temp.readable(body) ->> 'rule' IS NOT NULL;

-- Until now all that a tenant's leader remembered was one text.
INSERT INTO incidents (tenant, incident_id, state, service, began_unix_nano, resolved_unix_nano,
    body, series, breach_since_unix_nano, last_breach_unix_nano, sequence, notified_unix_nano,
    notified_severity, reminders, is_changed, is_closed, keep_firing_seconds)
SELECT s.tenant, t.key, t.value -> 'incident' ->> 'state', t.value -> 'incident' ->> 'service',
    (t.value -> 'incident' ->> 'pending_unix_nano')::bigint,
    CASE WHEN t.value -> 'incident' ->> 'state' = 'resolved'
         THEN (t.value -> 'incident' ->> 'resolved_unix_nano')::bigint END,
    t.value ->> 'incident', t.value ->> 'key', (t.value ->> 'breach_since_unix_nano')::bigint,
    (t.value ->> 'last_breach_unix_nano')::bigint, (t.value ->> 'sequence')::bigint,
    (t.value ->> 'last_told_unix_nano')::bigint, t.value ->> 'told_severity',
    (t.value ->> 'reminders')::bigint, (t.value ->> 'is_changed')::boolean,
    (t.value ->> 'is_closed')::boolean, (t.value ->> 'keep_firing_seconds')::bigint
FROM alert_states s, json_each(pg_temp.readable(s.body) -> 'tracked') t
WHERE s.name = 'keeper'
ON CONFLICT (tenant, incident_id) DO UPDATE SET state = excluded.state,
    resolved_unix_nano = excluded.resolved_unix_nano, body = excluded.body,
    series = excluded.series, breach_since_unix_nano = excluded.breach_since_unix_nano,
    last_breach_unix_nano = excluded.last_breach_unix_nano, sequence = excluded.sequence,
    notified_unix_nano = excluded.notified_unix_nano,
    notified_severity = excluded.notified_severity, reminders = excluded.reminders,
    is_changed = excluded.is_changed, is_closed = excluded.is_closed,
    keep_firing_seconds = excluded.keep_firing_seconds;

-- What alerting knows of a channel's destination.
CREATE TABLE channel_states (
    tenant  text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    body    text NOT NULL, -- JSON
    PRIMARY KEY (tenant, channel)
);
INSERT INTO channel_states (tenant, channel, body)
SELECT tenant, substr(name, length('channel:') + 1), body FROM alert_states
WHERE name LIKE 'channel:%';
DROP TABLE alert_states;
DROP FUNCTION pg_temp.readable(text);
