//! Templates and scores of logs, as pure computation.
//!
//! A [`Detector`] meets every log once, in the order in which they come: it finds the log's
//! template and says how unusual the log is for its service. No I/O, no clock, no randomness: what
//! it says follows from what it has seen.
//!
//! Logs over [`HISTORY_AGE`] older than their receipt get a template, but teach nothing and are
//! never called anomalies: today's baseline says nothing about them.
//!
//! Memory is bounded by [`DetectorConfig`]: a service has a bounded number of templates, and so
//! have all together; above either bound rare patterns leave for new ones, and what comes too often
//! for that falls into its service's catch-all. Of services above their bound, the one heard of
//! longest ago is forgotten, and learns afresh if it comes back. Each tenant has a share of all that,
//! by which another's flood changes nothing; see `room.rs`.

mod cluster;
mod input;
mod model;
mod room;
mod score;
pub mod sequence;
mod series;
mod session;
mod shares;
mod template;

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use logweir_core::{
    identity::{Service, TemplateId, Tenant},
    limits::HISTORY_AGE,
    record::Template,
    timestamp::Timestamp,
};

pub use self::{
    cluster::{PATTERNS_MAX, cluster},
    input::ReceivedLog,
    model::ModelError,
    score::{
        FEATURE_COUNT, FEATURE_NAMES, FeatureStatistics, FeatureSummary, Features, ForestModel,
        ForestParameters,
    },
    series::{
        Expected, STATE_BYTES_MAX, SeriesConfig, SeriesDetector, SeriesScore, SeriesStateError,
    },
    session::UnusualSession,
    template::{MASK_VERSION, SIGNATURE_BYTES_MAX, WILDCARD, parameters},
};
use self::{
    room::{
        Eviction, PART_OF_SERVICE, Replaced, Room, Size, VICTIM_SERVICES_MAX, by_turns,
        services_by_turns,
    },
    score::{DecayTable, Log, PatternBaseline, ServiceBaseline},
    session::{Sessions, described},
    template::{Catalogue, PatternHandle, PatternRequest},
};

/// Rows of a sample to train on, over all services of its scope.
pub const SAMPLE_ROWS_MAX: usize = 100_000;

/// Bounds and budget of a [`Detector`].
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorConfig {
    /// Whether logs are scored; without it they get their template alone.
    pub scoring: bool,
    /// Share of logs that may be called anomalies.
    pub contamination: f64,
    /// Templates of a service, catch-alls aside.
    pub templates_per_service_max: usize,
    /// Templates of all services of a tenant that is alone, catch-alls aside; all tenants together
    /// have a third more. About 400 bytes each, and 600 more with latency.
    pub templates_max: usize,
    /// Services known at a time of a tenant that is alone; of all tenants together a third more.
    pub services_max: usize,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self {
            scoring: true,
            contamination: 0.001,
            templates_per_service_max: 10_000,
            templates_max: 100_000,
            services_max: 4_096,
        }
    }
}

/// What a detector says about a log.
#[derive(Debug, Clone)]
pub struct LogScore {
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
    /// Sessions that are open.
    pub sessions: usize,
    /// Sessions that were dropped unscored, for lack of room.
    pub sessions_dropped: u64,
}

/// Whose logs a model was trained on, and whose it serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ModelScope {
    /// A service's; takes the place of the forest that the detector grows itself.
    Service(Tenant, Service),
    /// A tenant's, for services without a forest of their own.
    Tenant(Tenant),
    /// All, for services of tenants without one.
    Global,
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
    room: Room,
    decay_table: Arc<DecayTable>,
    forests: HashMap<ModelScope, Arc<ForestModel>>,
    feedback: HashMap<TemplateId, f32>,
    sessions: Sessions,
}

struct ServiceState {
    tenant: Tenant,
    service: Service,
    /// The number by which the tenant's shares go.
    account: usize,
    /// A hash of tenant and service, from which ids of templates and all that is random follow.
    seed: u64,
    templates: Catalogue<PatternBaseline>,
    baseline: ServiceBaseline,
    last_received: Timestamp,
    replaced: Replaced,
}

impl Detector {
    /// Knows nothing yet.
    pub fn new(config: DetectorConfig) -> Self {
        Self {
            sessions: Sessions::new(config.contamination),
            room: Room::new(config.services_max, config.templates_max),
            config,
            services: Vec::new(),
            by_name: HashMap::new(),
            current: 0,
            signature: Vec::with_capacity(SIGNATURE_BYTES_MAX),
            stats: DetectorStats::default(),
            decay_table: Arc::new(DecayTable::new()),
            forests: HashMap::new(),
            feedback: HashMap::new(),
        }
    }

    /// Starts from the templates and counts in storage, so that a restart does not call them new.
    /// To be called before the first log. Where there are more than there is room for, each tenant
    /// and each service gets its share of the most frequent ones.
    pub fn preload(&mut self, known: impl IntoIterator<Item = (Template, u64)>) {
        for (at, template, count) in self.take_over(known) {
            if self.has_room(at, template.pattern.len()) {
                self.grow(at, |templates| {
                    templates.preload(template, PatternBaseline::counted(count))
                });
            }
        }
        // Only once all are there: what merges follows from the whole set of a service's templates.
        // And the baseline after the merge, which adds up the counts of those that became one.
        for at in 0..self.services.len() {
            self.grow(at, Catalogue::merge_patterns);
            let ServiceState { baseline, templates, .. } = &mut self.services[at];
            baseline.preload(templates.all_learnt());
        }
    }

    /// Has a model serve a scope from the next log on; none goes back to what is learned here, or
    /// to a wider scope. It keeps serving services that come later.
    pub fn install(&mut self, scope: ModelScope, forest: Option<Arc<ForestModel>>) {
        match forest {
            Some(forest) => self.forests.insert(scope, forest),
            None => self.forests.remove(&scope),
        };
        for at in 0..self.services.len() {
            self.equip(at);
        }
    }

    /// What people said of patterns, in place of all that was said before: above 0 their logs are
    /// anomalies, below 0 they are usual; what is beyond 2 either way counts as 2.
    pub fn set_feedback(&mut self, weights: HashMap<TemplateId, f32>) {
        self.feedback = weights;
    }

    /// A sample of a scope's logs to train on, without those that alarmed; at most about
    /// [`SAMPLE_ROWS_MAX`] rows.
    pub fn sample(&self, scope: &ModelScope) -> Vec<Features> {
        let is_in = |state: &&ServiceState| match scope {
            ModelScope::Service(tenant, service) => {
                state.tenant == *tenant && state.service == *service
            }
            ModelScope::Tenant(tenant) => state.tenant == *tenant,
            ModelScope::Global => true,
        };
        let samples = || self.services.iter().filter(is_in).map(|state| state.baseline.sample());
        let rows: usize = samples().map(<[Features]>::len).sum();
        // Every n-th row of all services, so that each has its share; the first rows alone would be
        // those of the services that were known first.
        let step = rows.div_ceil(SAMPLE_ROWS_MAX).max(1);
        samples().flatten().step_by(step).copied().collect()
    }

    fn equip(&mut self, at: usize) {
        let ServiceState { tenant, service, baseline, .. } = &mut self.services[at];
        let own = ModelScope::Service(tenant.clone(), service.clone());
        baseline.install(self.forests.get(&own).cloned());
        let wider = self.forests.get(&ModelScope::Tenant(tenant.clone()));
        baseline.fall_back(wider.or_else(|| self.forests.get(&ModelScope::Global)).cloned());
    }

    /// Merges patterns that turned out to be one, where new ones came since it last did. It does so
    /// by itself as new patterns come; to be called now and then for the last of them.
    pub fn merge_patterns(&mut self) {
        for at in 0..self.services.len() {
            self.grow(at, Catalogue::merge_patterns);
        }
    }

    /// Templates whose alias changed since this was last asked, those that were not there before
    /// among them. To be stored; whoever knows the same templates finds the same aliases.
    pub fn take_template_changes(&mut self) -> Vec<Arc<Template>> {
        let mut changes = Vec::new();
        self.services.iter_mut().for_each(|state| state.templates.take_changes(&mut changes));
        changes
    }

    /// Scores a log, then learns from it.
    pub fn observe(&mut self, log: &ReceivedLog<'_>) -> LogScore {
        let at = self.enter(log.tenant, log.service, log.received_at);
        let place = self.template(at, &log.record.message);
        let state = &mut self.services[at];
        // The template is found first, for history is stored with it too.
        let is_history = log.received_at.since(log.record.time) > HISTORY_AGE;
        if !self.config.scoring || is_history {
            return state.unscored(place);
        }
        let time = log.record.time.as_unix_nanos();
        if let Some(factor) = state.baseline.rescale(time) {
            state.scale(factor);
        }
        let (mut scored, event) = state.score(place, log, &self.feedback);
        // Sequences have a budget of false alarms of their own: joined with the other tests, they
        // would cost each of them a share of theirs.
        if let Some(step) = self.sessions.observe(log, state.account, state.seed, event) {
            scored.is_anomaly = true;
            scored.anomaly_score = scored.anomaly_score.max(step.score as f32);
            scored
                .reasons
                .extend(described(&step.reasons, |event| event_name(&self.services, event)));
        }
        scored
    }

    /// Sessions that turned out to be unusual as a whole when they ended, since this was last
    /// asked.
    pub fn take_unusual_sessions(&mut self, now: Timestamp) -> Vec<UnusualSession> {
        let Self { sessions, services, .. } = self;
        sessions.take_unusual(now, |event| event_name(services, event))
    }

    /// What it holds, and what its bounds cost so far.
    pub fn stats(&self) -> DetectorStats {
        let sessions = self.sessions.stats();
        DetectorStats {
            services: self.services.len(),
            templates: self.room.templates(),
            sessions: sessions.sessions,
            sessions_dropped: sessions.dropped,
            ..self.stats
        }
    }

    fn enter(&mut self, tenant: &Tenant, service: &Service, received_at: Timestamp) -> usize {
        let is_current =
            |state: &ServiceState| state.service == *service && state.tenant == *tenant;
        // Logs come in batches of one service: the comparison spares two copies of names and a
        // hash for nearly all of them.
        if !self.services.get(self.current).is_some_and(is_current) {
            let key = (tenant.clone(), service.clone());
            self.current = match self.by_name.get(&key) {
                Some(&at) => at,
                None => self.admit(key),
            };
        }
        self.services[self.current].last_received = received_at;
        self.current
    }

    fn unknown(&self, account: usize, tenant: Tenant, service: Service) -> ServiceState {
        let seed = template::service_seed(&tenant, &service);
        let table = Arc::clone(&self.decay_table);
        ServiceState {
            templates: Catalogue::new(tenant.clone(), service.clone()),
            tenant,
            service,
            account,
            seed,
            baseline: ServiceBaseline::new(self.config.contamination, seed, table),
            last_received: Timestamp::MIN,
            replaced: Replaced::default(),
        }
    }

    /// Changes the templates of a service, and keeps account.
    fn grow<T>(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut Catalogue<PatternBaseline>) -> T,
    ) -> T {
        let state = &mut self.services[at];
        let before = state.templates.size();
        let result = change(&mut state.templates);
        // What patterns that became one have learnt was added up behind the baseline's back: its
        // sums over all patterns are counted anew. The factor changes nothing.
        if state.templates.take_absorbed() {
            state.scale(1.0);
        }
        self.room.change(state.account, before, state.templates.size());
        result
    }

    /// Where the message belongs, which is known from now on.
    fn template(&mut self, at: usize, message: &str) -> PatternHandle {
        let words = template::mask(message, &mut self.signature);
        if let Some(place) = self.services[at].templates.find(&self.signature) {
            return place;
        }
        let signature = std::mem::take(&mut self.signature);
        let has_room = self.has_room(at, signature.len()) || self.make_room(at, &signature);
        let asked = PatternRequest { message, signature: &signature, words, has_room };
        let place = self.grow(at, |templates| templates.admit(&asked));
        self.signature = signature;
        self.stats.catch_all_logs += u64::from(self.services[at].templates.is_catch_all(place));
        place
    }
}

/// Making room, and giving it.
impl Detector {
    /// Gives a service that was not known a place, and what it learns from now on an account.
    fn admit(&mut self, (tenant, service): (Tenant, Service)) -> usize {
        let account = self.room.account(&tenant);
        let state = self.unknown(account, tenant.clone(), service.clone());
        let at = if self.room.services.admits(account, 1) {
            self.services.push(state);
            self.services.len() - 1
        } else {
            self.forget_oldest(self.room.services.victim(account), state)
        };
        self.room.services.change(account, 0, 1);
        self.by_name.insert((tenant, service), at);
        self.equip(at);
        at
    }

    fn forget_oldest(&mut self, victim: usize, newcomer: ServiceState) -> usize {
        let ages = self.services.iter().enumerate().filter(|(_, state)| state.account == victim);
        let oldest = ages.min_by_key(|(_, state)| state.last_received);
        let at = oldest.map_or(0, |(at, _)| at);
        // Replaced in its place, so that the indexes of all others stay what the map says. The
        // accounts must follow, or their bounds would shrink with every change.
        let gone = std::mem::replace(&mut self.services[at], newcomer);
        self.by_name.remove(&(gone.tenant, gone.service));
        self.room.services.change(gone.account, 1, 0);
        self.room.change(gone.account, gone.templates.size(), Size { templates: 0, bytes: 0 });
        self.stats.services_forgotten += 1;
        at
    }

    /// The place of a service that storage knows; none if there are too many.
    fn enter_known(&mut self, tenant: &Tenant, service: &Service) -> Option<usize> {
        let key = (tenant.clone(), service.clone());
        let account = self.room.account(tenant);
        match self.by_name.get(&key) {
            Some(&at) => Some(at),
            None => self.room.services.admits(account, 1).then(|| self.admit(key)),
        }
    }

    /// Takes the templates over for which there is room: tenants and services by turns, and of a
    /// service the most frequent first.
    fn take_over(
        &mut self,
        known: impl IntoIterator<Item = (Template, u64)>,
    ) -> Vec<(usize, Template, u64)> {
        let mut taken = Vec::new();
        for ((tenant, service), templates) in services_by_turns(known) {
            let Some(at) = self.enter_known(&tenant, &service) else { continue };
            let of_service = templates.into_iter();
            taken.push(of_service.map(|(template, count)| (at, template, count)).collect());
        }
        by_turns(taken)
    }

    fn has_room(&self, at: usize, bytes: usize) -> bool {
        let account = self.services[at].account;
        !self.is_full(at) && self.room.admits(account, bytes)
    }

    fn is_full(&self, at: usize) -> bool {
        self.services[at].templates.len() >= self.config.templates_per_service_max
    }

    /// Has rare patterns leave for a new one; whether there is room then.
    #[cold]
    fn make_room(&mut self, at: usize, signature: &[u8]) -> bool {
        let is_full = self.is_full(at);
        let state = &mut self.services[at];
        let account = state.account;
        let evictions = self.room.evictions(account, signature.len(), is_full);
        let is_own = evictions.iter().flatten().any(|eviction| eviction.victim == account);
        if is_own && !state.replaced.may_go_on(state.last_received)
            || state.templates.follows_known(signature)
        {
            return false;
        }
        state.replaced.patterns += u32::from(is_own);
        let own_service = is_full.then_some(at);
        evictions.into_iter().flatten().all(|eviction| {
            // Some more for another tenant, so that it need not ask for each of many.
            let spare =
                if eviction.victim == account { 0 } else { self.room.spare(eviction.victim) };
            self.evict(&eviction, own_service.filter(|_| eviction.victim == account), spare)
        })
    }

    /// Forgets the victim's rarest patterns, those of one of its services or else the largest: what is
    /// missing, and up to `spare`. Whether it had as many as are missing.
    fn evict(&mut self, eviction: &Eviction, service: Option<usize>, spare: usize) -> bool {
        let mut missing = eviction.missing;
        while missing.templates > 0 || missing.bytes > 0 {
            let Some(service) = service.or_else(|| self.victim_service(eviction.victim)) else {
                return false;
            };
            let before = self.services[service].templates.size();
            let leaving = missing.templates.max(spare.min(before.templates / PART_OF_SERVICE));
            self.forget(service, leaving, missing.bytes);
            let after = self.services[service].templates.size();
            if after == before {
                return false;
            }
            missing = missing.after(before, after);
        }
        true
    }

    /// The largest service of an account, if possible one with a one-off pattern.
    fn victim_service(&self, account: usize) -> Option<usize> {
        let size = |at: &usize| self.services[*at].templates.size();
        let is_of = |at: &usize| self.services[*at].account == account && size(at).templates > 0;
        let mut largest: Vec<usize> = (0..self.services.len()).filter(is_of).collect();
        largest.sort_unstable_by_key(|at| (Reverse(size(at).weight()), *at));
        largest.truncate(VICTIM_SERVICES_MAX);
        let has_one_off = |at: &&usize| self.services[**at].templates.has_one_off();
        largest.iter().find(has_one_off).or(largest.first()).copied()
    }

    fn forget(&mut self, at: usize, templates: usize, bytes: usize) {
        let gone = self.grow(at, |known| known.forget_rarest(templates, bytes));
        let baseline = &mut self.services[at].baseline;
        gone.iter().for_each(|pattern| baseline.forget(pattern));
    }
}

impl ServiceState {
    fn scale(&mut self, factor: f64) {
        self.baseline.scale(factor, self.templates.all_learnt());
    }

    fn unscored(&mut self, place: PatternHandle) -> LogScore {
        let (_, pattern_baseline) = self.templates.learnt(place);
        pattern_baseline.count_unjudged();
        let template = Arc::clone(self.templates.template_of(place));
        LogScore { template, anomaly_score: 0.0, is_anomaly: false, reasons: Vec::new() }
    }

    /// The score of a log, and the id by which sequences know its pattern.
    fn score(
        &mut self,
        place: PatternHandle,
        log: &ReceivedLog<'_>,
        said: &HashMap<TemplateId, f32>,
    ) -> (LogScore, u64) {
        let template = Arc::clone(self.templates.template_of(place));
        // Feedback names the id that the log had when somebody read it: the merged pattern's, or
        // its own if it has merged since.
        let of_pattern = said.get(&template.merged_into.unwrap_or(template.template_id));
        let feedback = of_pattern.or_else(|| said.get(&template.template_id)).copied();
        let (pattern, pattern_baseline) = self.templates.learnt(place);
        let feedback = feedback.unwrap_or_default();
        let event = pattern_baseline.event(template.template_id);
        let (record, level) = (log.record, log.level);
        let log = Log { service: &self.service, pattern, record, level, feedback };
        let scored = self.baseline.observe(pattern_baseline, &log);
        let scored = LogScore {
            template,
            anomaly_score: scored.score,
            is_anomaly: scored.is_anomaly,
            reasons: scored.reasons,
        };
        (scored, event)
    }
}

/// What a pattern reads, by any of its ids.
fn event_name(services: &[ServiceState], event: u64) -> String {
    let named = services.iter().find_map(|state| state.templates.pattern(TemplateId(event)));
    named.unwrap_or("a pattern that is no longer known").to_owned()
}

#[cfg(test)]
mod tests;
