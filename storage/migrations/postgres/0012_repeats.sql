-- When a batch was received, the last time that it was: what the queue hands out once more was received
-- then, a repeat of its sender later.
ALTER TABLE batches ADD COLUMN received_unix_nano bigint;

-- Logs that senders without an account sent again, and that were not stored again.
CREATE TABLE repeats (
    tenant text COLLATE "C" NOT NULL PRIMARY KEY,
    logs   bigint NOT NULL
);
