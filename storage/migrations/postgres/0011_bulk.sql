-- What tenants send that send much may wait apart: how far all others are, and whose waits there.
ALTER TABLE heartbeats
    ADD COLUMN regular_committed_unix_nano bigint,
    ADD COLUMN bulk_tenants text[] NOT NULL DEFAULT '{}';
