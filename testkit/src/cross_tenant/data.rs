//! What a tenant stores: of everything two, of which one carries sealed words alone and the other
//! may be named by others.

use logweir_proto::v1;
use rand::RngExt as _;
use serde_json::json;
use uuid::Builder;

use super::marks::Words;

/// More than a model needs to be trained.
const LOGS: usize = 120;
/// More of the other service.
const EXTRA_LOGS: usize = 60;
/// Logs of both.
pub(super) const LOGS_STORED: usize = 2 * LOGS + EXTRA_LOGS;
/// One log in so many is an error that the rule counts.
const ERROR_EVERY: usize = 12;
const SECOND: u64 = 1_000_000_000;

/// The names of a tenant's things that others may send.
pub(super) struct Names {
    pub(super) service: String,
    pub(super) secret_service: String,
    /// The word that the rule counts.
    pub(super) wrong: String,
    /// In every message, known to nobody else.
    pub(super) secret: String,
}

impl Names {
    pub(super) fn new(words: &mut Words) -> Self {
        Self {
            service: words.open(),
            secret_service: words.sealed(),
            wrong: words.open(),
            secret: words.sealed(),
        }
    }
}

pub(super) fn id(words: &mut Words) -> Vec<u8> {
    Builder::from_random_bytes(words.0.random()).into_uuid().as_bytes().to_vec()
}

fn text(key: &str, value: String) -> v1::Attribute {
    let value = Some(v1::attribute::Value::StringValue(value));
    v1::Attribute { key: key.to_owned(), value }
}

/// A batch of a service's logs around a time, the last of which breaks a rule of its own and becomes
/// a dead letter.
pub(super) fn batch(
    words: &mut Words,
    names: &Names,
    service: &str,
    time: u64,
    count: usize,
) -> v1::Batch {
    let logger = words.sealed();
    let mut records: Vec<v1::LogRecord> =
        (0..count).map(|number| record(names, &logger, number, time)).collect();
    let broken = format!("{} is broken, {}", words.sealed(), names.secret);
    records.push(v1::LogRecord {
        time_unix_nano: time,
        message: broken,
        latency_ms: Some(-1.0),
        ..v1::LogRecord::default()
    });
    for record in &mut records {
        record.trace_id = words.0.random::<[u8; 16]>().to_vec();
        record.span_id = words.0.random::<[u8; 8]>().to_vec();
    }
    let producer = v1::Producer {
        producer_id: id(words),
        sequence: 1,
        account: Some(v1::Account { emitted: records.len() as u64 + 3, ..v1::Account::default() }),
        sdk_name: words.sealed(),
        sdk_version: words.sealed(),
    };
    let resource = v1::Resource {
        service: service.to_owned(),
        instance: words.sealed(),
        environment: words.sealed(),
        version: words.sealed(),
        region: words.sealed(),
        host: words.sealed(),
        attributes: vec![text(&words.open(), words.sealed())],
    };
    let (producer, resource) = (Some(producer), Some(resource));
    v1::Batch { batch_id: id(words), producer, resource, records }
}

fn record(names: &Names, logger: &str, number: usize, time: u64) -> v1::LogRecord {
    let Names { wrong, secret, .. } = names;
    let is_error = number.is_multiple_of(ERROR_EVERY);
    // Each pattern has another number of logs: those with as many are listed by their ids, by chance.
    let message = match number % 8 {
        _ if is_error => format!("{wrong} failed for {secret} after {number} tries"),
        0..4 => format!("order {number} of {secret} placed"),
        4..6 => format!("{secret} paid {number} in {} ms", number * 7 % 90),
        _ => format!("cache of {secret} holds {number} entries"),
    };
    let level = if is_error { v1::Level::Error } else { v1::Level::Info };
    v1::LogRecord {
        time_unix_nano: time + number as u64 * (SECOND / 10),
        level: level.into(),
        message,
        latency_ms: Some((number % 40) as f64 + 0.5),
        logger: logger.to_owned(),
        attributes: vec![
            text("customer", secret.clone()),
            v1::Attribute {
                key: "order".to_owned(),
                value: Some(v1::attribute::Value::IntValue(number as i64)),
            },
        ],
        ..v1::LogRecord::default()
    }
}

pub(super) fn batches(words: &mut Words, names: &Names, time: u64) -> [v1::Batch; 2] {
    [(&names.service, 0), (&names.secret_service, EXTRA_LOGS)]
        .map(|(service, more)| batch(words, names, service, time, LOGS + more))
}

/// Rules that count what `wrong` is in, for an hour, and go on as long. The first one finds it in one
/// service; the second never does: of two incidents that begin at once, chance says which is listed
/// first.
pub(super) fn rules(words: &mut Words, names: &Names) -> [String; 2] {
    [(words.open(), 2), (words.sealed(), u32::MAX)].map(|(name, threshold)| {
        let measure = json!({
            "kind": "match_count", "filter": names.wrong, "window_seconds": 3_600,
            "threshold": {"absolute": threshold},
        });
        let rule = json!({
            "name": name, "measure": measure, "services": [names.service],
            "keep_firing_seconds": 86_400, "labels": {"team": words.sealed()},
            "runbook": words.sealed(),
        });
        rule.to_string()
    })
}

/// Channels that no incident is told through, and that may call nobody.
pub(super) fn channels(words: &mut Words) -> [String; 2] {
    [words.open(), words.sealed()].map(|name| {
        let url = format!("https://169.254.169.254/{}", words.sealed());
        let templates = json!({"title": words.sealed()});
        let webhook = json!({"url": url, "signing_secret": words.sealed()});
        json!({"name": name, "kind": {"webhook": webhook}, "templates": templates}).to_string()
    })
}

/// Silences that cover nothing that there is.
pub(super) fn silences(words: &mut Words, now: u64) -> [v1::Silence; 2] {
    [words.open(), words.sealed()].map(|name| v1::Silence {
        matchers: [("service".to_owned(), name)].into(),
        to_unix_nano: (now + 86_400 * SECOND) as i64,
        comment: words.sealed(),
        ..v1::Silence::default()
    })
}

pub(super) fn policy(words: &mut Words) -> String {
    let (source, target) = (words.sealed(), words.open());
    let inhibition = json!({"source": {"service": source}, "target": {"service": target}});
    json!({"inhibitions": [inhibition]}).to_string()
}

pub(super) fn deploys(words: &mut Words, names: &Names, time: u64) -> [v1::Deploy; 2] {
    [words.open(), words.sealed()].map(|version| v1::Deploy {
        service: names.service.clone(),
        version,
        time_unix_nano: time as i64,
        note: words.sealed(),
    })
}
