-- Whether a log in the dead letters is owed to its sender: acknowledged, not stored, and not replayed
-- either. The others are those whose sender was told, or that are stored by now.
ALTER TABLE dead_letters ADD COLUMN is_owed INTEGER NOT NULL GENERATED ALWAYS AS (
    replayed_unix_nano IS NULL AND reason IN ('batch_conflict', 'sequence_reused',
        'sequence_forgotten', 'unstorable', 'processing_failed', 'quarantined', 'unreadable_message')
) VIRTUAL;
-- What it takes on the disk: its values, and about 100 bytes for the row and its places in indices.
ALTER TABLE dead_letters ADD COLUMN disk_bytes INTEGER NOT NULL GENERATED ALWAYS AS (
    length(resource) + length(record) + length(CAST(reason AS BLOB)) + length(CAST(detail AS BLOB)) + 100
) VIRTUAL;
CREATE INDEX dead_letters_owed ON dead_letters (tenant_id, is_owed, dead_letter_id);

-- What each tenant takes of the disk; retention goes by it. Kept by the triggers below, so that no
-- change of a row can leave it out. Only entries of the ledger are counted by who enters and folds
-- them: there may be one with every log.
CREATE TABLE tenant_usage (
    tenant_id         INTEGER PRIMARY KEY,
    -- Sums of disk_bytes.
    block_bytes       INTEGER NOT NULL DEFAULT 0,
    dead_letters      INTEGER NOT NULL DEFAULT 0,
    dead_letter_bytes INTEGER NOT NULL DEFAULT 0,
    -- Of these dead letters, those with is_owed = 1.
    owed_dead_letters      INTEGER NOT NULL DEFAULT 0,
    owed_dead_letter_bytes INTEGER NOT NULL DEFAULT 0,
    -- Dead letters deleted for the quota or the disk so far.
    expired_dead_letters   INTEGER NOT NULL DEFAULT 0,
    -- Rows of the ledger, of producers, templates and buckets, at about what one takes with its
    -- places in indices.
    row_bytes         INTEGER NOT NULL DEFAULT 0,
    -- Rows of buckets of 10 seconds.
    fine_buckets      INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO tenant_usage (tenant_id) SELECT tenant_id FROM tenants;
UPDATE tenant_usage SET block_bytes = found.bytes
FROM (SELECT tenant_id, sum(disk_bytes) AS bytes FROM blocks GROUP BY tenant_id) AS found
WHERE tenant_usage.tenant_id = found.tenant_id;
UPDATE tenant_usage SET dead_letters = found.letters, dead_letter_bytes = found.bytes,
    owed_dead_letters = found.owed, owed_dead_letter_bytes = found.owed_bytes
FROM (SELECT tenant_id, count(*) AS letters, sum(disk_bytes) AS bytes, sum(is_owed) AS owed,
          sum(is_owed * disk_bytes) AS owed_bytes FROM dead_letters GROUP BY tenant_id) AS found
WHERE tenant_usage.tenant_id = found.tenant_id;
UPDATE tenant_usage SET row_bytes = found.bytes, fine_buckets = found.fine
FROM (SELECT tenant_id, sum(bytes) AS bytes, sum(fine) AS fine FROM (
          SELECT tenant_id, 128 * count(*) AS bytes, 0 AS fine FROM batches GROUP BY tenant_id
          UNION ALL SELECT tenant_id, 1024 * count(*), 0 FROM producers GROUP BY tenant_id
          UNION ALL SELECT tenant_id, sum(256 + length(CAST(pattern AS BLOB))), 0 FROM templates
          GROUP BY tenant_id
          UNION ALL SELECT tenant_id, 64 * count(*), sum(width_seconds = 10) FROM service_buckets
          JOIN services USING (service_id) GROUP BY tenant_id
          UNION ALL SELECT tenant_id, 128 * count(*), sum(width_seconds = 10) FROM latency_buckets
          JOIN services USING (service_id) GROUP BY tenant_id
          UNION ALL SELECT tenant_id, 64 * count(*), sum(width_seconds = 10) FROM template_buckets
          JOIN templates USING (template_key) GROUP BY tenant_id)
      GROUP BY tenant_id) AS found
WHERE tenant_usage.tenant_id = found.tenant_id;

CREATE TRIGGER tenants_added AFTER INSERT ON tenants BEGIN
    INSERT INTO tenant_usage (tenant_id) VALUES (NEW.tenant_id);
END;
CREATE TRIGGER blocks_added AFTER INSERT ON blocks BEGIN
    UPDATE tenant_usage SET block_bytes = block_bytes + NEW.disk_bytes
    WHERE tenant_id = NEW.tenant_id;
END;
CREATE TRIGGER blocks_deleted AFTER DELETE ON blocks BEGIN
    UPDATE tenant_usage SET block_bytes = block_bytes - OLD.disk_bytes
    WHERE tenant_id = OLD.tenant_id;
END;
CREATE TRIGGER dead_letters_added AFTER INSERT ON dead_letters BEGIN
    UPDATE tenant_usage SET dead_letters = dead_letters + 1,
        dead_letter_bytes = dead_letter_bytes + NEW.disk_bytes,
        owed_dead_letters = owed_dead_letters + NEW.is_owed,
        owed_dead_letter_bytes = owed_dead_letter_bytes + NEW.is_owed * NEW.disk_bytes
    WHERE tenant_id = NEW.tenant_id;
END;
CREATE TRIGGER dead_letters_deleted AFTER DELETE ON dead_letters BEGIN
    UPDATE tenant_usage SET dead_letters = dead_letters - 1,
        dead_letter_bytes = dead_letter_bytes - OLD.disk_bytes,
        owed_dead_letters = owed_dead_letters - OLD.is_owed,
        owed_dead_letter_bytes = owed_dead_letter_bytes - OLD.is_owed * OLD.disk_bytes
    WHERE tenant_id = OLD.tenant_id;
END;
CREATE TRIGGER dead_letters_replayed AFTER UPDATE OF replayed_unix_nano ON dead_letters BEGIN
    UPDATE tenant_usage SET owed_dead_letters = owed_dead_letters + NEW.is_owed - OLD.is_owed,
        owed_dead_letter_bytes = owed_dead_letter_bytes + (NEW.is_owed - OLD.is_owed) * NEW.disk_bytes
    WHERE tenant_id = NEW.tenant_id;
END;
CREATE TRIGGER producers_added AFTER INSERT ON producers BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes + 1024 WHERE tenant_id = NEW.tenant_id;
END;
CREATE TRIGGER producers_deleted AFTER DELETE ON producers BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes - 1024 WHERE tenant_id = OLD.tenant_id;
END;
CREATE TRIGGER templates_added AFTER INSERT ON templates BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes + 256 + length(CAST(NEW.pattern AS BLOB))
    WHERE tenant_id = NEW.tenant_id;
END;
CREATE TRIGGER service_buckets_added AFTER INSERT ON service_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes + 64,
        fine_buckets = fine_buckets + (NEW.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM services WHERE service_id = NEW.service_id);
END;
CREATE TRIGGER service_buckets_deleted AFTER DELETE ON service_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes - 64,
        fine_buckets = fine_buckets - (OLD.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM services WHERE service_id = OLD.service_id);
END;
CREATE TRIGGER latency_buckets_added AFTER INSERT ON latency_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes + 128,
        fine_buckets = fine_buckets + (NEW.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM services WHERE service_id = NEW.service_id);
END;
CREATE TRIGGER latency_buckets_deleted AFTER DELETE ON latency_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes - 128,
        fine_buckets = fine_buckets - (OLD.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM services WHERE service_id = OLD.service_id);
END;
CREATE TRIGGER template_buckets_added AFTER INSERT ON template_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes + 64,
        fine_buckets = fine_buckets + (NEW.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM templates WHERE template_key = NEW.template_key);
END;
CREATE TRIGGER template_buckets_deleted AFTER DELETE ON template_buckets BEGIN
    UPDATE tenant_usage SET row_bytes = row_bytes - 64,
        fine_buckets = fine_buckets - (OLD.width_seconds = 10)
    WHERE tenant_id = (SELECT tenant_id FROM templates WHERE template_key = OLD.template_key);
END;
