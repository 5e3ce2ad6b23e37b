-- What tenants send that send much may wait apart: how far that is, and whose it is.
ALTER TABLE heartbeats
    ADD COLUMN bulk_committed_unix_nano bigint,
    ADD COLUMN bulk_tenants text[] NOT NULL DEFAULT '{}';
