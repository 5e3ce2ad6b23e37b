-- For searches of one service, and of all, newest or oldest first; and by trace.
--
-- Why these, and why `attributes` is json: server's CPU per row of a binary COPY of 20,000 rows of 20 services
-- a transaction, sorted, 300 bytes a row, PostgreSQL 15:
--   no index: json 1.5 µs, text 1.5, jsonb 1.9 (and 9 % more disk; it also loses the order of names, repeated
--   names and how numbers were written);
--   by service 2.9, by time 2.8, by trace 3.1 (a hash index 2.4, BRIN with Bloom filters 1.7);
--   by service and time 4.2; all three 6.2 with the B-tree by trace, 5.8 with the hash, 4.6 with BRIN.
-- A hash index saves little and is larger. BRIN by trace has to be read as a whole, 3 bytes for each row
-- there is, at every search; the B-tree is probed once a day of history.
CREATE INDEX logs_by_service ON logs (tenant, service, time);
CREATE INDEX logs_by_time ON logs (tenant, time);
CREATE INDEX logs_by_trace ON logs (trace_id) WHERE trace_id IS NOT NULL;
