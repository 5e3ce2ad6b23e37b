-- Whether a report lists a producer by itself. One that is not listed, because it was idle and there
-- were too many, is in the sums of its service alone; its sequences are kept like those of any other.
ALTER TABLE producers ADD COLUMN is_listed INTEGER NOT NULL DEFAULT 1;
CREATE INDEX producers_listed ON producers (tenant_id, service, last_received_unix_nano)
    WHERE is_listed = 1;

-- The accounts of all producers of a service, listed or not, added up: changed with each account.
CREATE TABLE producer_totals (
    tenant_id     INTEGER NOT NULL,
    service       TEXT    NOT NULL,
    producers     INTEGER NOT NULL,
    emitted       INTEGER NOT NULL,
    -- For any reason.
    dropped       INTEGER NOT NULL,
    queued        INTEGER NOT NULL,
    spooled       INTEGER NOT NULL,
    stored        INTEGER NOT NULL,
    dead_lettered INTEGER NOT NULL,
    -- Of producers that lack logs, how many.
    missing       INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, service)
) STRICT, WITHOUT ROWID;

-- The counts of an account are 64 bits without a sign: what is negative here is above 2^63. No figure
-- of one account counts more than 2^43.
INSERT INTO producer_totals
SELECT tenant_id, service, count(*), sum(min(emitted, 8796093022208)), sum(min(dropped, 8796093022208)),
    sum(min(queued, 8796093022208)), sum(min(spooled, 8796093022208)),
    sum(min(stored, 8796093022208)), sum(min(dead_lettered, 8796093022208)),
    -- Where these go beyond 64 bits they become real numbers.
    sum(CAST(min(max(emitted - stored - dead_lettered - dropped - queued - spooled, 0),
                 8796093022208) AS INTEGER))
FROM (
    SELECT tenant_id, service, stored, dead_lettered,
        iif(emitted < 0, 9223372036854775807, emitted) AS emitted,
        iif(queued < 0, 9223372036854775807, queued) AS queued,
        iif(spooled < 0, 9223372036854775807, spooled) AS spooled,
        (SELECT CAST(total(value ->> 1) AS INTEGER) FROM json_each(producers.dropped)) AS dropped
    FROM producers WHERE service <> ''
) GROUP BY tenant_id, service;

-- New patterns are looked for by tenant every two seconds: another's must not be gone through.
ALTER TABLE template_totals ADD COLUMN tenant_id INTEGER NOT NULL DEFAULT 0;
UPDATE template_totals SET tenant_id = templates.tenant_id
FROM templates WHERE templates.template_key = template_totals.template_key;
DROP INDEX template_totals_by_first_seen;
CREATE INDEX template_totals_by_first_seen ON template_totals (tenant_id, first_seen_unix_nano);

-- Jobs go by turns of their tenants, one of each at a time.
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (kind, tenant_id, job_id) WHERE state IN ('waiting', 'taken');
CREATE INDEX jobs_turns ON jobs (kind, tenant_id, leased_unix_nano);
