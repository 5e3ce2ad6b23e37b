//! A log read from its row, and other values as the tables hold them.

use logweir_core::{
    identity::{BatchId, LogId, Service, TemplateId},
    record::{Level, Record, ScoredRecord, StoredLog},
};
use tokio_postgres::{Row, types::FromSql};

use crate::postgres::{
    errors::Fault,
    texts::{Exact, read_attributes},
    values::{Id, Timestamp},
};

/// What [`log`] reads, in this order.
pub(crate) const LOG: &str = "time, time_nanos, batch_id, record_index, received_at, received_nanos, \
     service, instance, environment, level, level_sent, severity_number, message, latency_ms, trace_id, \
     span_id, logger, attributes::text, template_id, anomaly_score, is_anomaly, anomaly_reasons, exact";

/// A column of a type that the table says it has.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

/// A log.
pub(crate) fn log(row: &Row) -> Result<StoredLog, Fault> {
    let attributes: Option<&str> = get(row, 17)?;
    let record = Record {
        index: index(get(row, 3)?)?,
        time_unix_nano: time(row, 0)?,
        level: get::<Option<i16>>(row, 10)?.map(level).transpose()?,
        severity_number: small(get(row, 11)?)?,
        message: get(row, 12)?,
        latency_ms: get(row, 13)?,
        trace_id: id(get(row, 14)?)?,
        span_id: id(get(row, 15)?)?,
        logger: get(row, 16)?,
        attributes: attributes
            .map(read_attributes)
            .transpose()
            .map_err(damaged)?
            .unwrap_or_default(),
    };
    let mut log = StoredLog {
        id: LogId {
            time_unix_nano: record.time_unix_nano,
            batch_id: BatchId(get::<Id>(row, 2)?.0),
            index: record.index,
        },
        received_unix_nano: time(row, 4)?,
        service: service(get(row, 6)?)?,
        instance: get(row, 7)?,
        environment: get(row, 8)?,
        scored: ScoredRecord {
            record,
            level: level(get(row, 9)?)?,
            template_id: template_id(get(row, 18)?),
            anomaly_score: get(row, 19)?,
            is_anomaly: get(row, 20)?,
            anomaly_reasons: get::<Option<Vec<String>>>(row, 21)?.unwrap_or_default(),
        },
    };
    if let Some(exact) = get::<Option<&[u8]>>(row, 22)? {
        Exact::from_bytes(exact).map_err(damaged)?.restore(&mut log);
    }
    Ok(log)
}

fn damaged(error: impl std::fmt::Display) -> Fault {
    Fault::corrupt(format!("a log: {error}"))
}

/// A time to the microsecond, and in the next column its nanoseconds.
fn time(row: &Row, column: usize) -> Result<i64, Fault> {
    Ok(get::<Timestamp>(row, column)?.with_nanos(get(row, column + 1)?))
}

fn small(number: i16) -> Result<u8, Fault> {
    u8::try_from(number).map_err(damaged)
}

/// The position of a log in its batch.
pub(crate) fn index(number: i32) -> Result<u32, Fault> {
    u32::try_from(number).map_err(damaged)
}

fn id<const N: usize>(bytes: Option<&[u8]>) -> Result<Option<[u8; N]>, Fault> {
    bytes.map(TryInto::try_into).transpose().map_err(damaged)
}

/// A level by its number.
pub(crate) fn level(number: i16) -> Result<Level, Fault> {
    let level = u8::try_from(number).ok().and_then(Level::from_number);
    level.ok_or_else(|| Fault::corrupt(format!("there is no level {number}")))
}

/// A service by its name.
pub(crate) fn service(name: &str) -> Result<Service, Fault> {
    Service::new(name).map_err(|error| Fault::corrupt(error.to_string()))
}

/// The 64 bits of a template's id.
pub(crate) const fn template_id(number: i64) -> TemplateId {
    TemplateId(number as u64)
}

/// A count, which is never negative.
pub(crate) fn count(row: &Row, column: usize) -> Result<u64, Fault> {
    let number: i64 = get(row, column)?;
    u64::try_from(number).map_err(|error| Fault::corrupt(format!("a count: {error}")))
}
