//! The judgement: templates and scores, as pure computation.
//!
//! A [`Detector`] meets every log once, in the order in which they come: it finds the log's template
//! and says how unusual the log is for its service. No I/O, no clock, no randomness: what it says
//! follows from what it has seen.
//!
//! Logs over [`HISTORY_NANOS`] older than their receipt get a template, but teach nothing and are
//! never called anomalies: today's baseline says nothing about them.
//!
//! Memory is bounded by [`DetectorConfig`]: a service has a bounded number of templates, and so have
//! all together; above either bound a new pattern falls into its service's catch-all. Of services
//! above their bound, the one heard of longest ago is forgotten, and learns afresh if it comes back.

mod score;
mod template;

use std::{collections::HashMap, sync::Arc};

use logweir_core::{
    identity::{Service, Tenant},
    limits::HISTORY_NANOS,
    record::{Level, Record, Template},
};

pub use self::template::{MASK_VERSION, SIGNATURE_BYTES_MAX, WILDCARD};
use self::{
    score::{Baseline, Described, Frequency, LatencyHistogram},
    template::IdMap,
};

/// Bounds and budget of a [`Detector`].
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorConfig {
    /// Share of logs that may be called anomalies.
    pub contamination: f64,
    /// Templates of a service, catch-alls aside.
    pub templates_per_service_max: usize,
    /// Templates of all services, catch-alls aside; about 400 bytes each, and 600 more with latency.
    pub templates_max: usize,
    /// Services known at a time.
    pub services_max: usize,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            contamination: 0.001,
            templates_per_service_max: 10_000,
            templates_max: 100_000,
            services_max: 4_096,
        }
    }
}

/// What a detector says about a log.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The pattern that the message follows.
    pub template: Arc<Template>,
    /// 0 is usual, 1 was never seen; in steps of 0.001.
    pub anomaly_score: f32,
    /// Whether the score passed the threshold.
    pub is_anomaly: bool,
    /// Why, in a person's words; empty unless it is an anomaly.
    pub reasons: Vec<String>,
}

/// What a detector holds, and what its bounds cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DetectorStats {
    /// Services known.
    pub services: usize,
    /// Templates known, catch-alls aside.
    pub templates: usize,
    /// Logs that fell into a catch-all.
    pub catch_all_logs: u64,
    /// Services forgotten for lack of room.
    pub services_forgotten: u64,
}

/// Finds templates and scores. See the crate's documentation.
pub struct Detector {
    config: DetectorConfig,
    services: Vec<ServiceState>,
    by_name: HashMap<(Tenant, Service), usize>,
    /// The service of the last log; the next is most likely its too.
    current: usize,
    signature: Vec<u8>,
    stats: DetectorStats,
}

struct ServiceState {
    tenant: Tenant,
    service: Service,
    seed: u64,
    templates: IdMap<TemplateState>,
    /// Templates that are not catch-alls.
    counted: usize,
    baseline: Baseline,
    last_received_unix_nano: i64,
}

struct TemplateState {
    template: Arc<Template>,
    frequency: Frequency,
    latency: Option<Box<LatencyHistogram>>,
}

impl Detector {
    /// Knows nothing yet.
    pub fn new(config: DetectorConfig) -> Self {
        Self {
            config,
            services: Vec::new(),
            by_name: HashMap::new(),
            current: 0,
            signature: Vec::with_capacity(SIGNATURE_BYTES_MAX),
            stats: DetectorStats::default(),
        }
    }

    /// Starts from the templates and counts in storage, so that a restart does not call them new.
    /// To be called before the first log.
    pub fn preload(&mut self, known: impl IntoIterator<Item = (Template, u64)>) {
        for (template, count) in known {
            let at = self.enter(&template.tenant, &template.service, i64::MIN);
            if self.has_room(at) {
                let frequency = Frequency::counted(count);
                let id = template.template_id.0;
                let state =
                    TemplateState { template: Arc::new(template), frequency, latency: None };
                if self.services[at].templates.insert(id, state).is_none() {
                    self.services[at].counted += 1;
                    self.stats.templates += 1;
                }
            }
        }
        for ServiceState { baseline, templates, .. } in &mut self.services {
            *baseline = Baseline::new(self.config.contamination);
            baseline.preload(templates.values_mut().map(|known| &mut known.frequency));
        }
    }

    /// Judges a log, then learns from it.
    pub fn observe(
        &mut self,
        tenant: &Tenant,
        service: &Service,
        received_unix_nano: i64,
        record: &Record,
        level: Level,
    ) -> Verdict {
        let at = self.enter(tenant, service, received_unix_nano);
        let id = self.template(at, &record.message);
        let state = &mut self.services[at];
        let time = record.time_unix_nano;
        if received_unix_nano.saturating_sub(time) > HISTORY_NANOS {
            return state.history(id);
        }
        if let Some(factor) = state.baseline.rescale(time) {
            let frequencies = state.templates.values_mut().map(|known| &mut known.frequency);
            state.baseline.scale(factor, frequencies);
        }
        state.judge(id, record, level)
    }

    /// What it holds, and what its bounds cost so far.
    pub fn stats(&self) -> DetectorStats {
        DetectorStats { services: self.services.len(), ..self.stats }
    }

    fn enter(&mut self, tenant: &Tenant, service: &Service, received_unix_nano: i64) -> usize {
        let is_current =
            |state: &ServiceState| state.service == *service && state.tenant == *tenant;
        if !self.services.get(self.current).is_some_and(is_current) {
            let key = (tenant.clone(), service.clone());
            self.current = match self.by_name.get(&key) {
                Some(&at) => at,
                None => self.admit(key),
            };
        }
        self.services[self.current].last_received_unix_nano = received_unix_nano;
        self.current
    }

    fn admit(&mut self, (tenant, service): (Tenant, Service)) -> usize {
        let state = ServiceState {
            seed: template::service_seed(&tenant, &service),
            tenant: tenant.clone(),
            service: service.clone(),
            templates: IdMap::default(),
            counted: 0,
            baseline: Baseline::new(self.config.contamination),
            last_received_unix_nano: i64::MIN,
        };
        let at = if self.services.len() < self.config.services_max.max(1) {
            self.services.push(state);
            self.services.len() - 1
        } else {
            self.forget_oldest(state)
        };
        self.by_name.insert((tenant, service), at);
        at
    }

    fn forget_oldest(&mut self, newcomer: ServiceState) -> usize {
        let ages = self.services.iter().enumerate();
        let oldest = ages.min_by_key(|(_, state)| state.last_received_unix_nano);
        let at = oldest.map_or(0, |(at, _)| at);
        let gone = std::mem::replace(&mut self.services[at], newcomer);
        self.by_name.remove(&(gone.tenant, gone.service));
        self.stats.templates -= gone.counted;
        self.stats.services_forgotten += 1;
        at
    }

    fn has_room(&self, at: usize) -> bool {
        self.services[at].counted < self.config.templates_per_service_max
            && self.stats.templates < self.config.templates_max
    }

    /// The id of the message's template, which is known from now on.
    fn template(&mut self, at: usize, message: &str) -> u64 {
        let words = template::mask(message, &mut self.signature);
        let id = template::template_id(self.services[at].seed, &self.signature).0;
        if self.services[at].templates.contains_key(&id) {
            return id;
        }
        if self.has_room(at) {
            self.stats.templates += 1;
            self.services[at].counted += 1;
            self.services[at].insert(&self.signature);
            return id;
        }
        self.stats.catch_all_logs += 1;
        self.services[at].insert(template::catch_all(words).as_bytes())
    }
}

impl ServiceState {
    fn insert(&mut self, signature: &[u8]) -> u64 {
        let id = template::template_id(self.seed, signature);
        self.templates.entry(id.0).or_insert_with(|| TemplateState {
            template: template::template(&self.tenant, &self.service, id, signature),
            frequency: Frequency::default(),
            latency: None,
        });
        id.0
    }

    fn known(&mut self, id: u64) -> (&mut TemplateState, &mut Baseline, &Service) {
        let known = self.templates.get_mut(&id).expect("the template was looked up or inserted");
        (known, &mut self.baseline, &self.service)
    }

    fn history(&mut self, id: u64) -> Verdict {
        let (known, ..) = self.known(id);
        known.frequency.count += 1;
        let template = known.template.clone();
        Verdict { template, anomaly_score: 0.0, is_anomaly: false, reasons: Vec::new() }
    }

    fn judge(&mut self, id: u64, record: &Record, level: Level) -> Verdict {
        let (known, baseline, service) = self.known(id);
        let time = record.time_unix_nano;
        let latency_tail = match (record.latency_ms, &known.latency) {
            (Some(latency_ms), Some(histogram)) => histogram.tail(latency_ms),
            _ => None,
        };
        let seen_before = known.frequency.count;
        let judgement = baseline.observe(&mut known.frequency, latency_tail, time);
        let mut reasons = Vec::new();
        if judgement.is_anomaly {
            let p99 = known.latency.as_ref().map(|histogram| histogram.percentile(0.99));
            let pattern = &known.template.pattern;
            let latency = record.latency_ms.zip(p99);
            let log = Described { service, level, pattern, seen_before, latency };
            reasons = baseline.reasons(judgement, &log);
        }
        if let Some(latency_ms) = record.latency_ms {
            let histogram =
                known.latency.get_or_insert_with(|| Box::new(LatencyHistogram::new(time)));
            histogram.learn(latency_ms, time);
        }
        Verdict {
            template: known.template.clone(),
            anomaly_score: judgement.score,
            is_anomaly: judgement.is_anomaly,
            reasons,
        }
    }
}

#[cfg(test)]
mod tests;
