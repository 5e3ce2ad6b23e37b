-- Whether a report lists a producer by itself. One that is not listed, because it was idle and there
-- were too many, is in the sums of its service alone; its sequences are kept like those of any other.
ALTER TABLE producers ADD COLUMN is_listed boolean NOT NULL DEFAULT true;
CREATE INDEX producers_listed ON producers (tenant, service, last_received_unix_nano) WHERE is_listed;

-- The accounts of all producers of a service, listed or not, added up: changed with each account.
CREATE TABLE producer_totals (
    tenant        text COLLATE "C" NOT NULL,
    service       text COLLATE "C" NOT NULL,
    producers     bigint NOT NULL,
    emitted       bigint NOT NULL,
    -- For any reason.
    dropped       bigint NOT NULL,
    queued        bigint NOT NULL,
    spooled       bigint NOT NULL,
    stored        bigint NOT NULL,
    dead_lettered bigint NOT NULL,
    -- Of producers that lack logs, how many.
    missing       bigint NOT NULL,
    PRIMARY KEY (tenant, service)
);

-- The counts of an account are 64 bits without a sign: what is negative here is above 2^63. No figure
-- of one account counts more than 2^43.
CREATE VIEW producer_sums (tenant, service, producers, emitted, dropped, queued, spooled, stored,
                           dead_lettered, missing) AS
SELECT tenant, service, count(*), sum(least(emitted, 8796093022208)), sum(least(dropped, 8796093022208)),
    sum(least(queued, 8796093022208)), sum(least(spooled, 8796093022208)),
    sum(least(stored, 8796093022208)), sum(least(dead_lettered, 8796093022208)),
    sum(least(greatest(emitted::numeric - stored - dead_lettered - dropped - queued - spooled, 0),
              8796093022208))
FROM (
    SELECT tenant, service, stored, dead_lettered,
        CASE WHEN emitted < 0 THEN 9223372036854775807 ELSE emitted END AS emitted,
        CASE WHEN queued < 0 THEN 9223372036854775807 ELSE queued END AS queued,
        CASE WHEN spooled < 0 THEN 9223372036854775807 ELSE spooled END AS spooled,
        (SELECT least(coalesce(sum((reason ->> 1)::numeric), 0), 9223372036854775807)
         FROM json_array_elements(producers.dropped::json) AS reason) AS dropped
    FROM producers WHERE service <> ''
) AS accounts GROUP BY tenant, service;
INSERT INTO producer_totals SELECT * FROM producer_sums;

-- Jobs go by turns of their tenants, one of each at a time.
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (kind, tenant, job_id) WHERE state IN ('waiting', 'taken');
CREATE INDEX jobs_turns ON jobs (kind, tenant, leased_unix_nano);
