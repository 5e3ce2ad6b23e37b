-- Whether a log in the dead letters is owed to its sender: acknowledged, not stored, and not replayed
-- either. The others are those whose sender was told, or that are stored by now: they have a quota.
ALTER TABLE dead_letters ADD COLUMN is_owed boolean NOT NULL GENERATED ALWAYS AS (
    replayed_unix_nano IS NULL AND reason IN ('batch_conflict', 'sequence_reused',
        'sequence_forgotten', 'unstorable', 'processing_failed', 'quarantined', 'unreadable_message')
) STORED;

-- Dead letters that were deleted for the quota so far.
CREATE TABLE expired_dead_letters (
    tenant       text COLLATE "C" PRIMARY KEY,
    dead_letters bigint NOT NULL
);
