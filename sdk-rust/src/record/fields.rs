//! Named values of a log, from whatever library it was written with, as they become a record.
//!
//! Some names have a meaning: `latency_ms` or `duration_ms`, if a number; `trace_id` and `span_id`,
//! if hexadecimal. Everything else becomes an attribute.

use logweir_proto::v1::{Level, LogRecord};

use super::Value;
use crate::{hex, record};

/// Named values, each name once.
#[derive(Debug, Clone)]
pub(crate) struct Fields<Name>(Vec<(Name, Value)>);

impl<Name> Default for Fields<Name> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Name: AsRef<str> + Into<String> + Clone> Fields<Name> {
    pub(crate) fn set(&mut self, name: Name, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known.as_ref() == name.as_ref()) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes over what another has; its values win.
    pub(crate) fn set_all(&mut self, others: &Self) {
        for (name, value) in &others.0 {
            self.set(name.clone(), value.clone());
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| known.as_ref() == name)?;
        Some(self.0.remove(at).1)
    }

    /// Leaves out the names that begin so.
    pub(crate) fn remove_all(&mut self, prefix: &str) {
        self.0.retain(|(name, _)| !name.as_ref().starts_with(prefix));
    }

    pub(crate) fn into_record(
        mut self,
        level: Level,
        logger: String,
        message: String,
    ) -> LogRecord {
        let latency_ms = self.take_number("latency_ms").or_else(|| self.take_number("duration_ms"));
        let (trace_id, span_id) = (self.take_id::<16>("trace_id"), self.take_id::<8>("span_id"));
        let named = self.0.into_iter();
        LogRecord {
            level: level.into(),
            message,
            latency_ms,
            trace_id,
            span_id,
            logger,
            attributes: named.map(|(name, value)| record::attribute(name.into(), value)).collect(),
            ..LogRecord::default()
        }
    }

    /// A number that a latency can be. Anything else stays an attribute.
    fn take_number(&mut self, name: &str) -> Option<f64> {
        let (_, value) = self.0.iter().find(|(known, _)| known.as_ref() == name)?;
        let number = match value {
            Value::Int(number) => *number as f64,
            Value::Double(number) => *number,
            _ => return None,
        };
        // Anything else would be cleared later; as an attribute it is kept.
        let is_latency = number.is_finite() && number >= 0.0;
        is_latency.then(|| self.take(name)).map(|_| number)
    }

    /// An id in hexadecimal digits; empty if there is none. Anything else stays an attribute.
    fn take_id<const SIZE: usize>(&mut self, name: &str) -> Vec<u8> {
        let found = self.0.iter().find(|(known, _)| known.as_ref() == name);
        let Some((_, Value::Text(text))) = found else { return Vec::new() };
        let Some(id) = hex::decode::<SIZE>(text) else { return Vec::new() };
        self.take(name);
        id.to_vec()
    }
}
