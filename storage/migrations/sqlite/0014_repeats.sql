-- When a batch was received, the last time that it was: what the queue hands out once more was received
-- then, a repeat of its sender later.
ALTER TABLE batches ADD COLUMN received_unix_nano INTEGER;

-- Logs that senders without an account sent again, and that were not stored again.
CREATE TABLE repeats (
    tenant_id INTEGER NOT NULL PRIMARY KEY,
    logs      INTEGER NOT NULL
) STRICT;
