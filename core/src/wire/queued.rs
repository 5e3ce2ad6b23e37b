//! What goes through a message broker. Both directions keep everything: a batch comes out of
//! [`decode_batch`] as it went into [`encode_batch`].

use logweir_proto::{queue::v1 as queue, v1};
use prost::Message;

use super::{
    WireError, account_to_wire, log_entry_to_wire, producer_from_wire, record_from_wire,
    record_to_wire, resource_from_wire, resource_to_wire,
};
use crate::{
    identity::{BatchId, Service, Tenant},
    record::{Batch, Level, Producer, Record, RejectedRecord, ScoredRecord, StoredLog},
    timestamp::Timestamp,
};

/// Logs of one tenant on their way to the live tails.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveLogs {
    /// The tenant to whose readers they may be shown.
    pub tenant: Tenant,
    /// One start of the processor that shows them.
    pub publisher_id: [u8; 16],
    /// The logs; none at all tells counts alone.
    pub logs: Vec<StoredLog>,
    /// How many logs it showed before these: of their tenant, or where there are none, of those that
    /// it showed some of lately.
    pub shown: Vec<(Tenant, u64)>,
    /// Whether `shown` names every tenant of which logs were ever published; the counts may then run
    /// ahead of what was shown.
    pub names_all: bool,
}

/// A batch as bytes. Takes it apart, so that no text is copied.
pub fn encode_batch(batch: Batch) -> Vec<u8> {
    // Positions are part of a log's id. They are 0, 1, 2 … unless some logs were rejected, and are
    // then left out: four bytes less for nearly every log that goes through the broker.
    let in_order = batch.records.iter().zip(0..).all(|(record, index)| record.index == index);
    let indices = if in_order {
        Vec::new()
    } else {
        batch.records.iter().map(|record| record.index).collect()
    };
    let rejection = |rejected: RejectedRecord| queue::QueuedRejection {
        index: rejected.record.index,
        record: Some(record_to_wire(rejected.record)),
        reason: rejected.reason,
        detail: rejected.detail,
    };
    queue::QueuedBatch {
        tenant: batch.tenant.to_string(),
        batch_id: batch.batch_id.0.to_vec(),
        checksum: batch.checksum,
        received_unix_nano: batch.received_at.as_unix_nanos(),
        producer: batch.producer.map(producer_to_wire),
        resource: Some(resource_to_wire(batch.resource)),
        records: batch.records.into_iter().map(record_to_wire).collect(),
        indices,
        rejected: batch.rejected.into_iter().map(rejection).collect(),
    }
    .encode_to_vec()
}

/// A batch from [`encode_batch`].
pub fn decode_batch(bytes: &[u8]) -> Result<Batch, WireError> {
    let wire = queue::QueuedBatch::decode(bytes)?;
    let resource = wire.resource.unwrap_or_default();
    let service = Service::new(&resource.service)?;
    // Guessing would give logs the ids of others.
    if !wire.indices.is_empty() && wire.indices.len() != wire.records.len() {
        return Err(WireError::Indices);
    }
    let index = |position: usize| wire.indices.get(position).copied().unwrap_or(position as u32);
    let records = wire.records.into_iter().enumerate();
    Ok(Batch {
        tenant: Tenant::new(&wire.tenant)?,
        batch_id: BatchId::try_from(wire.batch_id.as_slice())?,
        checksum: wire.checksum,
        received_at: Timestamp::from_unix_nanos(wire.received_unix_nano),
        producer: wire.producer.map(producer_from_wire).transpose()?,
        resource: resource_from_wire(resource, service),
        records: records.map(|(position, record)| kept_record(index(position), record)).collect(),
        rejected: wire.rejected.into_iter().map(rejection_from_wire).collect(),
    })
}

/// Logs for live tails as bytes.
pub fn encode_live_logs(live: LiveLogs) -> Vec<u8> {
    queue::LiveLogs {
        tenant: live.tenant.to_string(),
        publisher_id: live.publisher_id.to_vec(),
        logs: live.logs.into_iter().map(log_entry_to_wire).collect(),
        shown: live.shown.into_iter().map(shown_to_wire).collect(),
        names_all: live.names_all,
        ..queue::LiveLogs::default()
    }
    .encode_to_vec()
}

/// Logs from [`encode_live_logs`]. Each carries the level that it was given as the sender's too.
pub fn decode_live_logs(bytes: &[u8]) -> Result<LiveLogs, WireError> {
    let wire = queue::LiveLogs::decode(bytes)?;
    // Sixteen bytes like a batch's id, whose check it borrows.
    let publisher = BatchId::try_from(wire.publisher_id.as_slice())?;
    Ok(LiveLogs {
        tenant: Tenant::new(&wire.tenant)?,
        publisher_id: publisher.0,
        logs: wire.logs.into_iter().map(log_entry_from_wire).collect::<Result<_, _>>()?,
        shown: wire.shown.iter().map(shown_from_wire).collect::<Result<_, _>>()?,
        names_all: wire.names_all,
    })
}

fn shown_to_wire((tenant, logs): (Tenant, u64)) -> queue::ShownCount {
    queue::ShownCount { tenant: tenant.to_string(), logs }
}

fn shown_from_wire(wire: &queue::ShownCount) -> Result<(Tenant, u64), WireError> {
    Ok((Tenant::new(&wire.tenant)?, wire.logs))
}

/// A record that was valid when it was written: what it could not hold is among its attributes.
fn kept_record(index: u32, wire: v1::LogRecord) -> Record {
    record_from_wire(index, wire).0
}

fn rejection_from_wire(wire: queue::QueuedRejection) -> RejectedRecord {
    let record = kept_record(wire.index, wire.record.unwrap_or_default());
    RejectedRecord { record, reason: wire.reason, detail: wire.detail }
}

fn producer_to_wire(producer: Producer) -> v1::Producer {
    v1::Producer {
        producer_id: producer.producer_id.0.to_vec(),
        sequence: producer.sequence,
        account: Some(account_to_wire(producer.account)),
        // Joined with its version already, and joined again to the same when it is read.
        sdk_name: producer.sdk,
        sdk_version: String::new(),
    }
}

fn log_entry_from_wire(wire: v1::LogEntry) -> Result<StoredLog, WireError> {
    let id: crate::identity::LogId = wire.id.parse()?;
    let record = kept_record(id.index, wire.record.unwrap_or_default());
    Ok(StoredLog {
        id,
        received_at: Timestamp::from_unix_nanos(wire.received_unix_nano),
        service: Service::new(&wire.service)?,
        instance: wire.instance,
        environment: wire.environment,
        scored: ScoredRecord {
            level: record.level.unwrap_or(Level::Info),
            record,
            template_id: wire.template_id.parse()?,
            anomaly_score: wire.anomaly_score,
            is_anomaly: wire.is_anomaly,
            anomaly_reasons: wire.anomaly_reasons,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::{LogId, ProducerId, TemplateId},
        record::{Account, Attribute, Resource, Value},
    };

    fn record(index: u32) -> Record {
        Record {
            index,
            time: Timestamp::from_unix_nanos(1_700_000_000_000_000_000),
            message: format!("message {index}\0 ä"),
            latency_ms: Some(f64::INFINITY),
            attributes: vec![Attribute::new("k", Value::Double(f64::NEG_INFINITY))],
            ..Record::default()
        }
    }

    fn batch(indices: &[u32]) -> Batch {
        let account = Account { emitted: 9, dropped: vec![("x".into(), 1)], ..Account::default() };
        let sdk = "logweir-rust/0.1.0".to_owned();
        let producer = Producer { producer_id: ProducerId([3; 16]), sequence: 7, account, sdk };
        Batch {
            tenant: Tenant::new("acme").unwrap(),
            batch_id: BatchId([9; 16]),
            checksum: u64::MAX,
            received_at: Timestamp::from_unix_nanos(-5),
            producer: Some(producer),
            resource: Resource { region: "r".into(), ..Resource::of(Service::new("a/b").unwrap()) },
            records: indices.iter().copied().map(record).collect(),
            rejected: vec![RejectedRecord {
                record: record(77),
                reason: "too_large".into(),
                detail: "why".into(),
            }],
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        for indices in [&[][..], &[0, 1, 2], &[1, 4, 5], &[2, 0]] {
            let sent = batch(indices);
            assert_eq!(decode_batch(&encode_batch(sent.clone())).unwrap(), sent);
        }
        let anonymous = Batch { producer: None, rejected: Vec::new(), ..batch(&[0]) };
        assert_eq!(decode_batch(&encode_batch(anonymous.clone())).unwrap(), anonymous);
    }

    #[test]
    fn what_is_no_batch_is_an_error() {
        assert!(decode_batch(b"not a batch").is_err());
        assert!(decode_batch(b"").is_err(), "it has no service");
        let short = queue::QueuedBatch {
            tenant: "a".into(),
            batch_id: vec![1; 16],
            resource: Some(v1::Resource { service: "s".into(), ..Default::default() }),
            indices: vec![1, 2],
            ..Default::default()
        };
        assert!(decode_batch(&short.encode_to_vec()).is_err(), "indices without records");
    }

    #[test]
    fn a_quarantined_batch_has_all_its_logs_rejected() {
        let quarantined = batch(&[0, 1]).quarantined("it ended the process 10 times");
        assert!(quarantined.records.is_empty());
        let mut reasons: Vec<_> = quarantined.rejected.iter().map(|r| r.reason.as_str()).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, ["quarantined", "quarantined", "too_large"]);
    }

    #[test]
    fn live_logs_come_back_as_they_went() {
        let stored = StoredLog {
            id: LogId { time: Timestamp::from_unix_nanos(1), batch_id: BatchId([2; 16]), index: 3 },
            received_at: Timestamp::from_unix_nanos(4),
            service: Service::new("api").unwrap(),
            instance: "i".into(),
            environment: "e".into(),
            scored: ScoredRecord {
                record: Record { level: Some(Level::Warn), ..record(3) },
                level: Level::Warn,
                template_id: TemplateId(255),
                anomaly_score: 0.5,
                is_anomaly: true,
                anomaly_reasons: vec!["why".into()],
            },
        };
        let tenant = Tenant::default();
        let live = LiveLogs {
            tenant: tenant.clone(),
            publisher_id: [8; 16],
            logs: vec![stored],
            shown: vec![(tenant, 5)],
            names_all: true,
        };
        assert_eq!(decode_live_logs(&encode_live_logs(live.clone())).unwrap(), live);
        assert!(decode_live_logs(b"no").is_err());
    }
}
