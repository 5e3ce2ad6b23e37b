-- Dead letters and models are numbered within their tenant: ids that count over all of them would tell
-- one tenant how much the others do. Those that are there keep their ids as numbers.
ALTER TABLE dead_letters ADD COLUMN number bigint;
ALTER TABLE models ADD COLUMN number bigint;
UPDATE dead_letters SET number = dead_letter_id;
UPDATE models SET number = model_id;

-- The highest number that was given. Never given again: the id of a replay derives from it.
CREATE TABLE last_numbers (
    tenant   text COLLATE "C" NOT NULL, -- empty: where tenants that come later begin
    numbered text NOT NULL,             -- the table
    number   bigint NOT NULL,
    PRIMARY KEY (tenant, numbered)
);
-- Far beyond the ids that servers of the version before name until they are exchanged, for these go by
-- the old ones: what they discard or replay must not be what has that number.
INSERT INTO last_numbers
SELECT '', numbered,
    coalesce(pg_sequence_last_value(pg_get_serial_sequence(numbered, id)::regclass) + 1000000, 0)
FROM (VALUES ('dead_letters', 'dead_letter_id'), ('models', 'model_id')) AS known (numbered, id);

-- Takes so many numbers; the first of them.
CREATE FUNCTION take_numbers(of_tenant text, of_table text, count bigint) RETURNS bigint
LANGUAGE sql AS $$
    INSERT INTO last_numbers AS known (tenant, numbered, number)
    SELECT of_tenant, of_table, number + count FROM last_numbers
    WHERE tenant = '' AND numbered = of_table
    ON CONFLICT (tenant, numbered) DO UPDATE SET number = known.number + count
    RETURNING number - count + 1
$$;

-- For rows that name no number: models, and what processes of an earlier version write.
CREATE FUNCTION number_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.number := take_numbers(NEW.tenant, TG_TABLE_NAME, 1);
    RETURN NEW;
END
$$;
CREATE TRIGGER numbered BEFORE INSERT ON dead_letters
FOR EACH ROW WHEN (NEW.number IS NULL) EXECUTE FUNCTION number_row();
CREATE TRIGGER numbered BEFORE INSERT ON models
FOR EACH ROW WHEN (NEW.number IS NULL) EXECUTE FUNCTION number_row();

ALTER TABLE dead_letters ALTER COLUMN number SET NOT NULL;
ALTER TABLE models ALTER COLUMN number SET NOT NULL;
DROP INDEX dead_letters_by_tenant;
CREATE UNIQUE INDEX dead_letters_by_number ON dead_letters (tenant, number);
CREATE UNIQUE INDEX models_by_number ON models (tenant, number);
