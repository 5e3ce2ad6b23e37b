-- TimescaleDB with its community licence: chunks become columns, sorted as searches read them.
ALTER TABLE logs SET (timescaledb.compress, timescaledb.compress_segmentby = 'tenant, service',
                      timescaledb.compress_orderby = 'time DESC');
SELECT add_compression_policy('logs', INTERVAL '2 hours');
