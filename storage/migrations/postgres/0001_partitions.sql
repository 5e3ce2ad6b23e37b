-- Plain PostgreSQL: a partition of `logs` for each day in UTC, named logs_YYYYMMDD. They are made ahead and
-- on demand, and dropped as a whole by retention.
ALTER TABLE logs RENAME TO logs_columns;
CREATE TABLE logs (LIKE logs_columns INCLUDING ALL) PARTITION BY RANGE (time);
DROP TABLE logs_columns;
