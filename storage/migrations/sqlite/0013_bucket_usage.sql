-- Who adds rows of buckets counts them, once in a transaction: a trigger for each row took more than
-- the row. Those that are deleted are counted by triggers still.
DROP TRIGGER service_buckets_added;
DROP TRIGGER latency_buckets_added;
DROP TRIGGER template_buckets_added;
