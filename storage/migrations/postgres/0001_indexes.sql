-- For searches of one service, and of all: newest or oldest first.
CREATE INDEX logs_by_service ON logs (tenant, service, time);
CREATE INDEX logs_by_time ON logs (tenant, time);
CREATE INDEX logs_by_trace ON logs (trace_id) WHERE trace_id IS NOT NULL;
