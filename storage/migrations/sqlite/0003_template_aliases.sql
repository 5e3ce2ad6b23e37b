-- The public id of the merged pattern that a pattern belongs to; none if it stands for itself. What
-- points at another is never pointed at.
ALTER TABLE templates ADD COLUMN merged_into INTEGER;
-- 1 if it was found by merging others, not by masking a message.
ALTER TABLE templates ADD COLUMN is_merger INTEGER NOT NULL DEFAULT 0;

CREATE INDEX templates_by_merger ON templates (tenant_id, merged_into)
    WHERE merged_into IS NOT NULL;
