//! Logs as rows of `logs` in PostgreSQL's binary COPY format. Pure.

use logweir_core::record::{ScoredBatch, ScoredRecord};

use crate::{
    postgres::{
        texts::{Exact, put_attributes, readable},
        values::Timestamp,
    },
    rollups::TEMPLATE_MISSING,
};

/// What takes the rows.
pub(crate) const COPY: &str =
    "COPY logs (time, received_at, template_id, latency_ms, batch_id, record_index, anomaly_score,
         time_nanos, received_nanos, level, level_sent, severity_number, is_anomaly, tenant, service,
         instance, environment, logger, message, trace_id, span_id, anomaly_reasons, attributes, exact)
     FROM STDIN (FORMAT binary)";
const COLUMNS: i16 = 24;

/// What comes before the rows: the signature, no flags, no extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What comes after them.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

const TEXT_OID: i32 = 25;
const NULL: i32 = -1;

/// A log on its way into its row, and the batch that it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) batch: &'a ScoredBatch,
    pub(crate) scored: &'a ScoredRecord,
}

impl Incoming<'_> {
    /// Why it cannot be stored, whatever the database says.
    pub(crate) fn fault(&self) -> Option<String> {
        let record = &self.scored.record;
        if let Some(latency_ms) = record.latency_ms
            && !(latency_ms.is_finite() && latency_ms >= 0.0)
        {
            return Some(format!("latency_ms {latency_ms} must be finite and not negative"));
        }
        if i32::try_from(record.index).is_err() {
            return Some(format!("its index {} in the batch is too large", record.index));
        }
        let has_template = self.batch.templates.contains_key(&self.scored.template_id);
        (!has_template).then(|| TEMPLATE_MISSING.to_owned())
    }

    /// Appends its row.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let Self { batch, scored } = *self;
        let (record, resource) = (&scored.record, &batch.resource);
        let (time, time_nanos) = Timestamp::of_nanos(record.time_unix_nano);
        let (received, received_nanos) = Timestamp::of_nanos(batch.received_unix_nano);
        out.extend_from_slice(&COLUMNS.to_be_bytes());
        put(out, &time.to_wire().to_be_bytes());
        put(out, &received.to_wire().to_be_bytes());
        put(out, &scored.template_id.0.to_be_bytes());
        put_option(out, record.latency_ms.map(f64::to_be_bytes));
        put(out, &batch.batch_id.0);
        put(out, &record.index.to_be_bytes());
        put(out, &scored.anomaly_score.to_be_bytes());
        put(out, &time_nanos.to_be_bytes());
        put(out, &received_nanos.to_be_bytes());
        put(out, &(scored.level as i16).to_be_bytes());
        put_option(out, record.level.map(|level| (level as i16).to_be_bytes()));
        put(out, &i16::from(record.severity_number).to_be_bytes());
        put(out, &[u8::from(scored.is_anomaly)]);
        put(out, batch.tenant.as_str().as_bytes());
        put(out, resource.service.as_str().as_bytes());
        let texts = [&resource.instance, &resource.environment, &record.logger, &record.message];
        let mut is_exact = true;
        for text in texts {
            is_exact &= put_text(out, text);
        }
        put_option(out, record.trace_id);
        put_option(out, record.span_id);
        is_exact &= put_texts(out, &scored.anomaly_reasons);
        if record.attributes.is_empty() {
            put_null(out);
        } else {
            is_exact &= put_sized(out, |out| put_attributes(out, &record.attributes));
        }
        if is_exact {
            put_null(out);
        } else {
            let [instance, environment, logger, message] = texts.map(String::as_str);
            let texts = [message, logger, instance, environment];
            put(out, &Exact::new(texts, &scored.anomaly_reasons, &record.attributes).to_bytes());
        }
    }
}

fn put(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&(value.len() as i32).to_be_bytes());
    out.extend_from_slice(value);
}

fn put_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL.to_be_bytes());
}

fn put_option<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    match value {
        Some(value) => put(out, &value),
        None => put_null(out),
    }
}

/// False if it is not exact.
fn put_text(out: &mut Vec<u8>, text: &str) -> bool {
    let readable = readable(text);
    put(out, readable.as_bytes());
    readable.len() == text.len()
}

/// An array, or none without texts; false if it is not exact.
fn put_texts(out: &mut Vec<u8>, texts: &[String]) -> bool {
    if texts.is_empty() {
        put_null(out);
        return true;
    }
    put_sized(out, |out| {
        // One dimension, no nulls, of texts, so many, counted from 1.
        for number in [1, 0, TEXT_OID, texts.len() as i32, 1] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let mut is_exact = true;
        for text in texts {
            is_exact &= put_text(out, text);
        }
        is_exact
    })
}

/// What `value` appends, with its length before it.
fn put_sized<T>(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let returned = value(out);
    let length = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    returned
}
