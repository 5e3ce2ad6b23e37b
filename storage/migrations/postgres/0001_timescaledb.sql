-- TimescaleDB: `logs` is a hypertable with a chunk for each day.
SELECT create_hypertable('logs', 'time', chunk_time_interval => INTERVAL '1 day',
                         create_default_indexes => false);
