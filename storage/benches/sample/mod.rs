//! Made-up logs, the same every time, for the benchmarks of all storages.

use std::{collections::HashMap, sync::Arc};

use logweir_core::{
    identity::{BatchId, ProducerId, Service, TemplateId, Tenant},
    record::{
        Account, Attribute, Level, Producer, Record, Resource, ScoredBatch, ScoredRecord, Template,
        Value,
    },
};

pub(crate) const SERVICES: u64 = 20;
const TEMPLATES_PER_SERVICE: u64 = 50;
pub(crate) const BATCH_LOGS: u64 = 1_000;
pub(crate) const START: i64 = 1_700_000_000_000_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000_000;
/// Event time that all the logs together take.
const SPAN: i64 = 10 * HOUR;

fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Ten logs, of as many services, belong to a trace.
pub(crate) fn trace(place: u64) -> [u8; 16] {
    u128::from(mixed(place / 10)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

pub(crate) struct Made {
    services: Vec<Service>,
    templates: Vec<Arc<Template>>,
    step: i64,
}

impl Made {
    pub(crate) fn new(total: u64) -> Self {
        let service = |n| Service::new(&format!("service-{n:02}")).expect("a valid name");
        let services: Vec<Service> = (0..SERVICES).map(service).collect();
        let template = |n: u64| {
            let of = services[(n / TEMPLATES_PER_SERVICE) as usize].clone();
            let pattern = format!(
                "{of} step {n} handled request <*> for user <*> in <*> ms via route <*> with result ok"
            );
            let template_id = TemplateId(mixed(n + 1_000_000));
            Arc::new(Template {
                template_id,
                tenant: Tenant::default(),
                service: of,
                pattern,
                merged_into: None,
                is_merger: false,
            })
        };
        let templates = (0..SERVICES * TEMPLATES_PER_SERVICE).map(template).collect();
        Self { services, templates, step: SPAN / total as i64 }
    }

    pub(crate) fn log(&self, service: u64, index: u32, place: u64) -> ScoredRecord {
        let random = mixed(place);
        // Some templates are much more frequent than others.
        let skewed = (random % TEMPLATES_PER_SERVICE) * (random >> 8) % TEMPLATES_PER_SERVICE;
        let template = &self.templates[(service * TEMPLATES_PER_SERVICE + skewed) as usize];
        let level = match random >> 16 & 0x3f {
            0 => Level::Error,
            1..4 => Level::Warn,
            4..16 => Level::Debug,
            _ => Level::Info,
        };
        let latency_ms = ((random >> 20 & 0xfff) as f64 / 10.0 + 1.0).round();
        let message = format!(
            "{} step {skewed} handled request {:012x} for user {} in {latency_ms} ms via route /api/v1/items/{} with result ok",
            template.service,
            random >> 16,
            random >> 32 & 0xffff,
            random >> 44 & 0xfff,
        );
        ScoredRecord {
            record: Record {
                index,
                time_unix_nano: START + place as i64 * self.step,
                level: Some(level),
                severity_number: level as u8 * 4 - 3,
                message,
                latency_ms: (random & 3 == 0).then_some(latency_ms),
                trace_id: Some(trace(place)),
                span_id: None,
                logger: "app.http".into(),
                attributes: vec![
                    Attribute::new("user_id", Value::Int((random >> 32 & 0xffff) as i64)),
                    Attribute::new(
                        "region",
                        Value::String(["eu", "us", "ap"][(random % 3) as usize].into()),
                    ),
                    Attribute::new(
                        "status",
                        Value::Int([200, 200, 200, 404, 500][(random % 5) as usize]),
                    ),
                ],
            },
            level,
            template_id: template.template_id,
            anomaly_score: (random >> 40 & 0xff) as f32 / 256.0,
            is_anomaly: random.is_multiple_of(1_000),
            anomaly_reasons: Vec::new(),
        }
    }

    pub(crate) fn batch(&self, number: u64) -> ScoredBatch {
        let service = number % SERVICES;
        // The batches of a round are of the same time.
        let round = number / SERVICES * SERVICES * BATCH_LOGS;
        let place = |index: u64| round + index * SERVICES + service;
        let log = |index: u64| self.log(service, index as u32, place(index));
        let records: Vec<ScoredRecord> = (0..BATCH_LOGS).map(log).collect();
        let first = service * TEMPLATES_PER_SERVICE;
        let of_service = &self.templates[first as usize..(first + TEMPLATES_PER_SERVICE) as usize];
        let templates: HashMap<_, _> = of_service
            .iter()
            .map(|template| (template.template_id, Arc::clone(template)))
            .collect();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ScoredBatch {
            tenant: Tenant::default(),
            batch_id: BatchId(id),
            checksum: number,
            received_unix_nano: START + place(BATCH_LOGS) as i64 * self.step,
            producer: Some(Producer {
                producer_id: ProducerId([service as u8; 16]),
                sequence: number / SERVICES + 1,
                account: Account {
                    emitted: (number / SERVICES + 1) * BATCH_LOGS,
                    ..Account::default()
                },
                sdk: "bench/1".into(),
            }),
            resource: Resource {
                instance: format!("host-{service}"),
                ..Resource::of(self.services[service as usize].clone())
            },
            records,
            rejected: Vec::new(),
            templates,
        }
    }
}

/// CPU time of this process in seconds, all threads.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |place| after.split_whitespace().nth(place).and_then(|text| text.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}
