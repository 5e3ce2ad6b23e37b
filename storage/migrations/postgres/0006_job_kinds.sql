-- Who can do a job, and until when it is worth beginning.
ALTER TABLE jobs ADD COLUMN kind text COLLATE "C" NOT NULL DEFAULT 'detection';
ALTER TABLE jobs ADD COLUMN begin_before_unix_nano bigint; -- none: whenever somebody comes
DROP INDEX jobs_open;
CREATE INDEX jobs_open ON jobs (kind, job_id) WHERE state IN ('waiting', 'taken');
