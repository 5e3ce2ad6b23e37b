//! Completes a log with what its sender left out. Pure, and it never overwrites what was sent.
//!
//! In order: a structured body is taken apart; the text says what it can about level, latency,
//! status, exception and trace; the batch's resource, the service table and the deploys add their
//! attributes. What is derived has the same plain names as what is sent. An attribute that would
//! exceed the limit of attributes is left out and counted.

mod body;
mod deploys;

use std::collections::HashMap;

use logweir_core::{
    identity::Service,
    limits::Limits,
    record::{Attribute, Level, Record, Resource, Value},
    timestamp::Timestamp,
};
use logweir_parse::{exception::exception, level, text};

pub(crate) use self::deploys::{DeployMarks, Marks};
use crate::config::{ProcessorConfig, ServiceInfo};

/// What logs are completed with.
pub(crate) struct Enricher {
    limits: Limits,
    services: HashMap<Service, ServiceInfo>,
    /// Attributes left out for the limit.
    pub(crate) attributes_left_out: u64,
}

/// What all logs of a batch get, prepared once.
pub(crate) struct Shared<'a> {
    received_at: Timestamp,
    attributes: Vec<Attribute>,
    /// Newest first.
    marks: &'a [(Timestamp, String)],
}

impl Enricher {
    /// Reads the settings. A name in the service table that no service can have is left out: it
    /// can be in no batch.
    pub(crate) fn new(config: &ProcessorConfig, limits: Limits) -> Self {
        let named = config.services.iter();
        let services = named
            .filter_map(|(name, info)| Some((Service::new(name).ok()?, info.clone())))
            .collect();
        Self { limits, services, attributes_left_out: 0 }
    }

    /// What the logs of a batch have in common, under the names that they get. What the sender
    /// says about its region and version wins over the table.
    pub(crate) fn shared<'a>(
        &self,
        resource: &Resource,
        received_at: Timestamp,
        marks: &'a [(Timestamp, String)],
    ) -> Shared<'a> {
        let mut attributes = resource.attributes.clone();
        let mut add = |key: &str, value: &str| {
            if !value.is_empty() && attributes.iter().all(|known| known.key != key) {
                attributes.push(Attribute::new(key, Value::String(value.to_owned())));
            }
        };
        // The sender's own before the table: the table says what is usual of a service, the sender
        // what this instance is, such as one in another region or on a newer version.
        add("service.region", &resource.region);
        add("service.version", &resource.version);
        add("host", &resource.host);
        if let Some(info) = self.services.get(&resource.service) {
            add("service.region", &info.region);
            add("service.owner", &info.owner);
            add("service.version", &info.version);
        }
        Shared { received_at, attributes, marks }
    }

    /// Completes a log; its level is what was sent, else what was derived, else INFO.
    pub(crate) fn enrich(&mut self, record: &mut Record, shared: &Shared<'_>) -> Level {
        // First the body: it may bring the message that the text is then read from. The shared
        // attributes come last, so that where room is short the log's own stay.
        body::take_apart(record, shared.received_at, &self.limits);
        let level = self.read_text(record);
        record.attributes.reserve(shared.attributes.len());
        for attribute in &shared.attributes {
            self.add(record, &attribute.key, || attribute.value.clone());
        }
        if let Some(version) = deploys::version_at(shared.marks, record.time) {
            self.add(record, "deploy.version", || Value::String(version.to_owned()));
        }
        level
    }

    fn read_text(&mut self, record: &mut Record) -> Level {
        // Taken out and put back, so that parts of it can be borrowed while the record is changed,
        // without a copy of every message.
        let message = std::mem::take(&mut record.message);
        let text = text::readable(&message);
        let sent = record.level.or(Level::from_severity_number(record.severity_number));
        let mut level = sent.or_else(|| level::marked(text));
        // Only where the level makes it likely: most logs are INFO, and the search reads the text
        // once more.
        if level.is_none_or(|level| level >= Level::Warn)
            && record.attribute("exception.type").is_none()
            && let Some(exception) = exception(&message)
        {
            level = level.or(Some(Level::Error));
            self.add_text(record, "exception.type", exception.kind);
            self.add_text(record, "exception.message", exception.message);
        }
        let numbers = text::numbers(text);
        record.latency_ms = record.latency_ms.or(numbers.latency_ms);
        if let Some(status) = numbers.status {
            self.add(record, "status", || Value::Int(status));
        }
        record.trace_id = record.trace_id.or_else(|| text::trace_id(text));
        record.message = message;
        let has_exception = || record.attribute("exception.type").is_some();
        let level = level.or_else(|| has_exception().then_some(Level::Error)).unwrap_or_default();
        record.level = Some(level);
        level
    }

    fn add_text(&mut self, record: &mut Record, key: &str, text: &str) {
        if !text.is_empty() && text.len() <= self.limits.attribute_value_bytes_max {
            self.add(record, key, || Value::String(text.to_owned()));
        }
    }

    fn add(&mut self, record: &mut Record, key: &str, value: impl FnOnce() -> Value) {
        if record.attribute(key).is_some() {
            return;
        }
        if record.attributes.len() >= self.limits.attributes_max {
            self.attributes_left_out += 1;
            return;
        }
        record.attributes.push(Attribute { key: key.to_owned(), value: value() });
    }
}

#[cfg(test)]
mod tests;
