-- The merged pattern that a pattern belongs to; none if it stands for itself. What points at another
-- is never pointed at.
ALTER TABLE templates ADD COLUMN merged_into bigint;
-- Whether it was found by merging others, not by masking a message.
ALTER TABLE templates ADD COLUMN is_merger boolean NOT NULL DEFAULT false;

CREATE INDEX templates_by_merger ON templates (tenant, merged_into)
    WHERE merged_into IS NOT NULL;
