-- Dead letters and models are numbered within their tenant: ids that count over all of them would tell
-- one tenant how much the others do. Those that are there keep their ids as numbers.
ALTER TABLE dead_letters ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE models ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE dead_letters SET number = dead_letter_id;
UPDATE models SET number = model_id;
DROP INDEX dead_letters_by_tenant;
CREATE UNIQUE INDEX dead_letters_by_number ON dead_letters (tenant_id, number);
CREATE UNIQUE INDEX models_by_number ON models (tenant_id, number);

-- The highest number that was given. Never given again: the id of a replay derives from it.
CREATE TABLE last_numbers (
    tenant_id INTEGER NOT NULL, -- 0: where tenants that come later begin
    numbered  TEXT    NOT NULL, -- the table
    number    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, numbered)
) STRICT, WITHOUT ROWID;
INSERT INTO last_numbers
SELECT 0, column1, coalesce((SELECT seq FROM sqlite_sequence WHERE name = column1), 0)
FROM (VALUES ('dead_letters'), ('models'));
