//! Evaluates every rule for every service of a tenant, and follows the incidents.
//!
//! Whoever drives it calls [`Engine::evaluate`] every two seconds with what was seen since: that is
//! the whole of an evaluation. It computes for as long as there are rules and services, and belongs
//! on a thread that may block.
//!
//! A service is evaluated at the moment through which its logs are known, its watermark. Where that
//! stands still nothing is evaluated: a pipeline that lags never resolves anything, and does not
//! make a service look silent.
//!
//! What grew after it was judged, as its logs came late, is judged again (`late`).
//!
//! The sums over a window are made once for a service; the rules that ask for it share them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::{Evidence, Incident, IncidentState},
    rule::{Direction, INCIDENTS_PER_RULE_MAX, Rule, RuleKind},
};

use super::{
    check::{Check, asks_about, kind_of, selects, series},
    late::{LateBuckets, LateLook, MOMENTS_MAX},
    measure::{Measurement, Query, full_buckets},
    observations::{Observations, RuleMatches, Watermarks},
    self_monitoring::SelfMonitoring,
};
use crate::{
    detector::{
        baseline::Abnormal,
        detection::Detection,
        history::{ServiceHistory, WindowSums},
        new_pattern::{NewPattern, NewPatterns},
        window::{BUCKET_WIDTH, Bucket, Buckets, SlowFrom},
    },
    incident::{Breach, Incidents, Origin, RuleResult},
};

/// How late a log may come and still count at once.
pub const LATENESS: Duration = Duration::from_secs(2);
/// How often to evaluate.
pub const EVALUATE_EVERY: Duration = Duration::from_secs(2);
/// Services that are watched; more are not, and are counted.
pub const SERVICES_MAX: usize = 10_000;
/// How far back a service that lagged is evaluated: as far as buckets are kept.
const CATCH_UP_MAX: Duration = Duration::from_secs(3_600);
/// At what steps it then is: a bucket, which is all that the past is told apart by.
const CATCH_UP_STEP: Duration = BUCKET_WIDTH;
/// After so long what an incident calls abnormal is the new baseline: a change that people have
/// lived with for six hours is no longer an incident that hides others.
const ACCEPT_AFTER: Duration = Duration::from_secs(6 * 3_600);
/// What goes wrong so often in a day is the service's nature, as far as anybody can tell, and is
/// learnt like everything else.
const FIRED_BY_NATURE: usize = 3;

/// An incident that has begun to fire, and where to look for its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The incident's id.
    pub incident_id: String,
    /// Its service; empty for the system.
    pub service: String,
    /// Its rule's kind, as [`crate::incident::evidence::Symptom::of`] takes it.
    pub kind: String,
    /// When it began, event time.
    pub from: Timestamp,
    /// Through when logs are known, event time.
    pub to: Timestamp,
}

/// What came of an evaluation. The incidents themselves are in [`Engine::incidents`], which also
/// says which have changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evaluation {
    /// Incidents that have begun to fire, evidence included, in the order in which they did.
    pub fired: Vec<EvidenceRequest>,
    /// Services that were not watched since the engine was made, as there are [`SERVICES_MAX`].
    pub services_refused: u64,
    /// Breaches that became no incident since the engine was made, as their rule has
    /// [`INCIDENTS_PER_RULE_MAX`].
    pub incidents_refused: u64,
}

/// A service as the engine follows it.
struct Service {
    history: ServiceHistory,
    new_patterns: NewPatterns,
    /// Through which moment it was evaluated, event time; [`Timestamp::MIN`] if it never was.
    evaluated_through: Timestamp,
    /// Through when its logs are known; none while that is not known.
    watermark: Option<Timestamp>,
    late: LateBuckets,
    /// The places of the rules that hold for it, ascending; renewed when rules change.
    rules: Vec<u32>,
    /// The places of rules with an incident that is not over.
    open: HashSet<u32>,
    abnormal: Abnormal,
}

/// The moment at which a rule is evaluated.
#[derive(Clone, Copy)]
struct When {
    /// The moment that is judged, event time.
    at: Timestamp,
    /// Event time through which the service's logs are known: later where they came late.
    known_through: Timestamp,
    now: Timestamp,
}

/// Rules, what they watch, and what they found. See the module's documentation.
pub struct Engine {
    tenant: String,
    rules: Vec<Rule>,
    /// Of each rule, at the same place.
    checks: Vec<Check>,
    /// What the rules ask for, each once.
    queries: Vec<Query>,
    services: BTreeMap<String, Service>,
    /// By rule and service: the logs that matched the rule's filter.
    matches: HashMap<(String, String), Buckets>,
    /// The places of rules whose matches nobody has looked for since the last evaluation: they wait
    /// for it, and what was found before stays as it is.
    unseen: HashSet<u32>,
    system: SelfMonitoring,
    incidents: Incidents,
    services_refused: u64,
    incidents_refused: u64,
    /// Whether there may be incidents that no rule watches any longer.
    has_orphans: bool,
    /// When the last evaluation was; [`Timestamp::MIN`] before the first.
    evaluated_at: Timestamp,
}

impl Engine {
    /// With these rules, and with the incidents of a former run.
    pub fn new(tenant: &str, rules: Vec<Rule>, incidents: Incidents) -> Self {
        let mut engine = Self {
            tenant: tenant.to_owned(),
            rules: Vec::new(),
            checks: Vec::new(),
            queries: Vec::new(),
            services: BTreeMap::new(),
            matches: HashMap::new(),
            unseen: HashSet::new(),
            system: SelfMonitoring::default(),
            incidents,
            services_refused: 0,
            incidents_refused: 0,
            has_orphans: true,
            evaluated_at: Timestamp::MIN,
        };
        engine.set_rules(rules);
        engine
    }

    /// Takes other rules from now on. What fires by a rule that is gone is resolved by the next
    /// evaluation.
    pub fn set_rules(&mut self, rules: Vec<Rule>) {
        // Of another filter nothing has been counted yet.
        let old: HashSet<&str> = {
            let is_kept = |rule: &&Rule| rules.contains(rule);
            self.rules.iter().filter(is_match_count).filter(is_kept).map(|r| &*r.name).collect()
        };
        self.matches.retain(|(rule, _), _| old.contains(rule.as_str()));
        self.rules = rules;
        // Ended by the next evaluation and not here: what ends is told, and that takes a moment in
        // time.
        self.has_orphans = true;
        self.queries.clear();
        let queries = &mut self.queries;
        self.checks = self.rules.iter().map(|rule| Check::of(&rule.measure, queries)).collect();
        // Places of rules have changed, and every service holds some.
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let (rules, open) = self.rules_of(&name);
            if let Some(service) = self.services.get_mut(&name) {
                (service.rules, service.open) = (rules, open);
            }
        }
    }

    /// The rules that hold for a service, and those of them with an incident that is not over.
    fn rules_of(&self, service: &str) -> (Vec<u32>, HashSet<u32>) {
        let places = (0..self.rules.len()).filter(|&place| {
            let rule = &self.rules[place];
            rule.enabled && self.checks[place] != Check::System && selects(rule, service)
        });
        let rules: Vec<u32> = places.filter_map(|place| u32::try_from(place).ok()).collect();
        let is_open = |rule: &&u32| {
            self.incidents.open(&series(&self.rules[**rule as usize].name, service)).is_some()
        };
        let open = rules.iter().filter(is_open).copied().collect();
        (rules, open)
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The incidents, to look at and to store.
    pub const fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    /// The incidents, for what people do with them and are told of them.
    pub const fn incidents_mut(&mut self) -> &mut Incidents {
        &mut self.incidents
    }

    /// When the last evaluation was; [`Timestamp::MIN`] before the first.
    pub const fn evaluated_at(&self) -> Timestamp {
        self.evaluated_at
    }

    fn service(&mut self, name: &str) -> Option<&mut Service> {
        if !self.services.contains_key(name) {
            // Names of services come from senders: without a bound one of them could fill the
            // memory.
            if self.services.len() >= SERVICES_MAX {
                self.services_refused += 1;
                return None;
            }
            let (rules, open) = self.rules_of(name);
            let service = Service {
                history: ServiceHistory::default(),
                new_patterns: NewPatterns::default(),
                evaluated_through: Timestamp::MIN,
                // All is known at once of a service that nobody gives a watermark of.
                watermark: Some(Timestamp::MAX),
                late: LateBuckets::default(),
                rules,
                open,
                abnormal: Abnormal::default(),
            };
            self.services.insert(name.to_owned(), service);
        }
        self.services.get_mut(name)
    }

    /// Takes in a bucket of the past, to learn from only; ascending, and before any evaluation.
    pub fn learn_bucket(&mut self, service: &str, bucket: Bucket) {
        let start = bucket.start;
        let end = start + BUCKET_WIDTH;
        if let Some(service) = self.service(service) {
            service.new_patterns.known_since(start);
            service.history.put(bucket);
            service.history.pass(end, Abnormal::default());
            service.evaluated_through = end;
        }
    }

    /// Takes in a pattern that was new in the past, to learn from only; ascending by the first log.
    pub fn learn_pattern(&mut self, service: &str, pattern: &NewPattern) {
        if let Some(service) = self.service(service) {
            service.new_patterns.recall(pattern);
        }
    }

    /// From when on the next evaluation wants buckets, once these watermarks are known: a service
    /// that lagged is evaluated from where it was left.
    pub fn wanted_from(&self, watermarks: &Watermarks, now: Timestamp) -> Timestamp {
        let is_known = |(name, service): &(&String, &Service)| {
            let watermark = watermarks.get(*name).copied().unwrap_or(service.watermark);
            watermark.is_some() && service.evaluated_through != Timestamp::MIN
        };
        let known = self.services.iter().filter(is_known);
        let evaluated = known.map(|(_, service)| service.evaluated_through);
        // The one that lags most decides for all, since they are read with one query.
        let earliest = now - CATCH_UP_MAX;
        evaluated.min().unwrap_or(now).clamp(earliest, now)
    }

    /// Evaluates everything: takes in what was seen, applies the rules, and has the evidence found
    /// of what begins to fire. None of `find_evidence` leaves an incident without.
    pub fn evaluate(
        &mut self,
        now: Timestamp,
        seen: Observations,
        mut find_evidence: impl FnMut(&EvidenceRequest) -> Option<Evidence>,
    ) -> Evaluation {
        // Evidence is looked for last, and only of what fires: each search costs more than all the
        // rules.
        self.observe(seen);
        self.evaluated_at = now;
        let mut fired = Vec::new();
        self.evaluate_services(now, &mut fired);
        self.evaluate_system(now, &mut fired);
        self.end_orphans(now);
        for request in &fired {
            if let Some(evidence) = find_evidence(request) {
                self.incidents.attach(&request.incident_id, evidence);
            }
        }
        Evaluation {
            fired,
            services_refused: self.services_refused,
            incidents_refused: self.incidents_refused,
        }
    }

    fn observe(&mut self, seen: Observations) {
        for (name, watermark) in seen.watermarks {
            if let Some(service) = self.service(&name) {
                service.watermark = watermark;
            }
        }
        for (name, bucket) in seen.buckets {
            if let Some(service) = self.service(&name) {
                let known = service.history.buckets.at(bucket.start);
                service.late.note(&bucket, known, service.evaluated_through);
                service.history.put(bucket);
            }
        }
        for (name, pattern) in seen.new_patterns {
            if let Some(service) = self.service(&name) {
                service.new_patterns.put(pattern);
            }
        }
        let is_unseen = |place: &u32| seen.unseen.contains(&self.rules[*place as usize].name);
        self.unseen = (0..self.rules.len() as u32).filter(is_unseen).collect();
        seen.matches.into_iter().for_each(|matches| self.observe_matches(matches));
        if let Some(report) = seen.system {
            self.system.put(report);
        }
    }

    /// Matches alone do not make a service one that is watched.
    fn observe_matches(&mut self, RuleMatches { rule, service, bucket }: RuleMatches) {
        let Some(watched) = self.services.get_mut(&service) else { return };
        let buckets = self.matches.entry((rule, service)).or_default();
        let known = buckets.at(bucket.start);
        // A bucket that has passed partly out of sight was seen whole before.
        if known.is_none_or(|seen| seen.total <= bucket.total) {
            watched.late.note(&bucket, known, watched.evaluated_through);
            buckets.put(bucket);
        }
    }

    fn evaluate_services(&mut self, now: Timestamp, fired: &mut Vec<EvidenceRequest>) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        // Shared out evenly, or those whose logs always come late would hold up all others.
        let late = self.services.values().filter(|service| !service.late.is_empty()).count();
        let moments_max = (MOMENTS_MAX / late.max(1)).max(1);
        for name in names {
            // Taken out while its rules look at everything else.
            let Some(mut service) = self.services.remove(&name) else { continue };
            // Logs of the last two seconds may still be on their way.
            let known = service.watermark.map(|w| w.min(now - LATENESS));
            let evaluated = service.evaluated_through;
            let times = known.map(|known| evaluation_times(evaluated, known)).unwrap_or_default();
            // Before what is new, so that one incident grows in the order in which it happened.
            if let Some(&first) = times.first()
                && let Some(look) = service.late.take(first, moments_max)
            {
                self.evaluate_again(&name, &mut service, &look, (first, now), fired);
            }
            for at in times {
                service.evaluated_through = at;
                let when = When { at, known_through: at, now };
                self.evaluate_service(&name, &mut service, when, fired);
            }
            self.services.insert(name, service);
        }
    }

    /// Judges what grew by the rules that count logs, as far as their windows no longer reach back
    /// to it. Detectors have windows of up to a quarter of an hour, which still do; and what is too
    /// few does not become so by logs that come late.
    fn evaluate_again(
        &mut self,
        name: &str,
        service: &mut Service,
        look: &LateLook,
        (known_through, now): (Timestamp, Timestamp),
        fired: &mut Vec<EvidenceRequest>,
    ) {
        let is_asked = |place: &u32| {
            !self.unseen.contains(place)
                && match self.checks[*place as usize] {
                    Check::Threshold { query, is_down, .. } => {
                        !is_down && look.has_passed(self.queries[query].window_seconds)
                    }
                    Check::Special => match self.rules[*place as usize].measure {
                        RuleKind::MatchCount { window_seconds, .. } => {
                            look.has_passed(window_seconds)
                        }
                        _ => false,
                    },
                    Check::System => false,
                }
        };
        let rules: Vec<u32> = service.rules.iter().copied().filter(is_asked).collect();
        if rules.is_empty() {
            return;
        }
        for &at in &look.moments {
            let when = When { at, known_through, now };
            let measured = self.measure(service, at);
            for &place in &rules {
                let is_open = is_open(place, service);
                let is_active = is_open && self.is_active(place as usize, name);
                let detection = match self.checks[place as usize] {
                    Check::Threshold { .. } => self.compare(place, &measured, when, is_active),
                    _ => self.count_matches(place, name, at, is_active),
                };
                if detection.is_some() || is_open {
                    self.follow(place, name, service, when, detection, fired);
                }
            }
        }
    }

    fn evaluate_service(
        &mut self,
        name: &str,
        service: &mut Service,
        when: When,
        fired: &mut Vec<EvidenceRequest>,
    ) {
        let windows = service.history.pass(when.at, service.abnormal);
        let measured = self.measure(service, when.at);
        let rules = std::mem::take(&mut service.rules);
        for &place in &rules {
            if self.unseen.contains(&place) {
                continue;
            }
            let is_open = is_open(place, service);
            let is_active = is_open && self.is_active(place as usize, name);
            let detection = match self.checks[place as usize] {
                Check::Threshold { .. } => self.compare(place, &measured, when, is_active),
                Check::Special => self.detect(place, name, service, &windows, is_active),
                Check::System => continue,
            };
            // Most rules find nothing most of the time: that must cost nothing.
            if detection.is_some() || is_open {
                self.follow(place, name, service, when, detection, fired);
            }
        }
        service.rules = rules;
        self.mark_abnormal(name, service, when.now);
    }

    /// The answer to each query, once for all rules: with thousands of rules most ask the same few
    /// things.
    fn measure(&self, service: &Service, at: Timestamp) -> Vec<Measurement> {
        let measure = |query: &Query| Measurement::of(&service.history, at, *query);
        self.queries.iter().map(measure).collect()
    }

    /// What a rule with a number finds in what was measured for all rules.
    fn compare(
        &self,
        place: u32,
        measured: &[Measurement],
        when: When,
        is_active: bool,
    ) -> Option<Detection> {
        let Check::Threshold { query, threshold, is_down } = self.checks[place as usize] else {
            return None;
        };
        let (rule, measured) = (&self.rules[place as usize], &measured[query]);
        let limit = measured.limit(threshold)?;
        let is_past = measured.is_past(limit, is_down, rule, is_active);
        is_past.then(|| measured.detection(limit, is_down, rule, when.at))
    }

    /// What a rule with a filter finds in the logs that matched it.
    fn count_matches(
        &self,
        place: u32,
        name: &str,
        at: Timestamp,
        is_active: bool,
    ) -> Option<Detection> {
        let rule = &self.rules[place as usize];
        let RuleKind::MatchCount { window_seconds, threshold, .. } = rule.measure else {
            return None;
        };
        let buckets = self.matches.get(&(rule.name.clone(), name.to_owned()))?;
        let full = full_buckets(window_seconds);
        let [sums] = buckets.sums(at, [full], SlowFrom::default());
        let matched = Measurement::of_matches(&sums);
        let limit = matched.limit(threshold)?;
        let is_past = matched.is_past(limit, false, rule, is_active);
        is_past.then(|| matched.detection(limit, false, rule, at))
    }

    /// Has the incident of a rule and a service follow what was found.
    fn follow(
        &mut self,
        place: u32,
        name: &str,
        service: &mut Service,
        when: When,
        detection: Option<Detection>,
        fired: &mut Vec<EvidenceRequest>,
    ) {
        let rule = place as usize;
        fired.extend(self.apply(rule, name, when, detection));
        if self.incidents.open(&series(&self.rules[rule].name, name)).is_some() {
            service.open.insert(place);
        } else {
            service.open.remove(&place);
        }
    }

    /// What a rule says that no number is compared for.
    fn detect(
        &self,
        place: u32,
        name: &str,
        service: &mut Service,
        windows: &WindowSums,
        is_active: bool,
    ) -> Option<Detection> {
        let history = &mut service.history;
        let rule = &self.rules[place as usize];
        let at = windows.at;
        match &rule.measure {
            RuleKind::ErrorRate { .. } | RuleKind::ErrorCount { .. } => {
                history.error_spike(windows, is_active)
            }
            RuleKind::Latency { .. } => history.latency_shift(windows, is_active),
            RuleKind::Volume { direction: Direction::Down, .. } => {
                history.volume_drop(windows, is_active)
            }
            RuleKind::Volume { direction: Direction::Up, .. } => {
                history.volume_surge(windows, is_active)
            }
            RuleKind::ServiceSilence { .. } => history.service_silence(windows, is_active),
            // Most services have none: their buckets need not be looked through.
            RuleKind::NewPattern { .. } if service.new_patterns.is_empty() => None,
            RuleKind::NewPattern { level, hits } => {
                service.new_patterns.detect(&history.buckets, at, *level, *hits)
            }
            RuleKind::MatchCount { .. } => self.count_matches(place, name, at, is_active),
            RuleKind::BurnRate { objective, long_window_seconds, short_window_seconds, factor } => {
                let windows = [*long_window_seconds, *short_window_seconds];
                let burnt = Measurement::of_burn_rate(history, at, *objective, windows);
                let is_past = burnt.is_past(*factor, false, rule, is_active);
                is_past.then(|| burnt.detection(*factor, false, rule, at))
            }
            _ => None,
        }
    }

    fn is_active(&self, rule: usize, service: &str) -> bool {
        let open = self.incidents.open(&series(&self.rules[rule].name, service));
        open.is_some_and(|tracked| tracked.incident.state.is_active())
    }

    /// Has the incident of a rule and a service follow what was found; returns it if it has begun
    /// to fire.
    fn apply(
        &mut self,
        rule: usize,
        service: &str,
        when: When,
        detection: Option<Detection>,
    ) -> Option<EvidenceRequest> {
        let rule = &self.rules[rule];
        let series = series(&rule.name, service);
        // An incident that is open goes on even then; only new ones are refused.
        let is_full = detection.is_some()
            && self.incidents.open(&series).is_none()
            && self.incidents.open_of(&rule.name) >= INCIDENTS_PER_RULE_MAX;
        if is_full {
            self.incidents_refused += 1;
            return None;
        }
        let started = detection.as_ref().map_or(when.at, |found| found.started_at);
        let origin = Origin {
            tenant: &self.tenant,
            rule: &rule.name,
            kind: kind_of(&rule.measure),
            service,
            labels: &rule.labels,
            channels: &rule.channels,
            runbook: &rule.runbook,
        };
        let result = RuleResult {
            series: &series,
            at: when.at,
            known_through: when.known_through,
            now: when.now,
            breach: detection.map(|found| breach(found, rule)),
            for_seconds: rule.for_seconds,
            keep_firing_seconds: rule.keep_firing_seconds,
        };
        let incident_id = self.incidents.apply(&result, &origin)?;
        Some(EvidenceRequest {
            incident_id,
            service: service.to_owned(),
            kind: origin.kind.to_owned(),
            from: started,
            to: when.at,
        })
    }

    /// What an incident says is not normal is not to be learnt, or a fault would excuse itself.
    /// Only built-in rules say so: what people set a threshold for may be normal all the same.
    fn mark_abnormal(&self, name: &str, service: &mut Service, now: Timestamp) {
        let before = service.abnormal;
        // From all open incidents anew, so that what is over no longer counts.
        let mut abnormal = Abnormal::default();
        for &rule in &service.open {
            let open = self.incidents.open(&series(&self.rules[rule as usize].name, name));
            let Some(tracked) = open else { continue };
            let incident = &tracked.incident;
            let is_old = now.since(incident.pending_at) > ACCEPT_AFTER;
            let is_nature =
                self.incidents.fired_lately(&tracked.tracking.series) >= FIRED_BY_NATURE;
            // With less than a day to compare with, what seems abnormal may be a time of day that
            // was not seen yet.
            let is_young = service.history.baseline.expected().is_young();
            // Pending incidents do not count: a doubt comes and goes, and would tear holes into the
            // baseline.
            if is_old
                || is_nature
                || !incident.state.is_active()
                || !incident.labels.contains_key("built_in")
            {
                continue;
            }
            match incident.kind.as_str() {
                "error_rate" => abnormal.errors = !is_young,
                "latency" => abnormal.latency = !is_young,
                "volume_down" | "volume_up" | "service_silence" => abnormal.volume = true,
                _ => {}
            }
        }
        service.abnormal = abnormal;
        // Once, when a fault begins: what was learnt in the hours before it may be part of it.
        service.history.forget_fresh(Abnormal {
            errors: abnormal.errors && !before.errors,
            latency: abnormal.latency && !before.latency,
            volume: abnormal.volume && !before.volume,
        });
    }

    fn evaluate_system(&mut self, now: Timestamp, fired: &mut Vec<EvidenceRequest>) {
        let when = When { at: now, known_through: now, now };
        for rule in 0..self.rules.len() {
            if self.checks[rule] != Check::System || !self.rules[rule].enabled {
                continue;
            }
            for (subject, detection) in self.system.detect(&self.rules[rule].measure, now) {
                let is_open =
                    self.incidents.open(&series(&self.rules[rule].name, &subject)).is_some();
                if detection.is_some() || is_open {
                    fired.extend(self.apply(rule, &subject, when, detection));
                }
            }
        }
    }

    /// Ends what no rule asks about any longer: the rule is gone, or no longer selects the service.
    fn end_orphans(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.has_orphans) {
            return;
        }
        let rules: HashMap<&str, &Rule> =
            self.rules.iter().filter(|rule| rule.enabled).map(|r| (&*r.name, r)).collect();
        let is_gone = |incident: &&Incident| {
            incident.state != IncidentState::Resolved
                && rules.get(&*incident.rule).is_none_or(|rule| !asks_about(rule, incident))
        };
        let gone: Vec<String> =
            self.incidents.iter().filter(is_gone).map(|i| i.id.clone()).collect();
        for id in gone {
            self.incidents.end(&id, "its rule is gone", now);
        }
    }
}

/// The moments to evaluate between two: a service that lagged is evaluated as it would have been,
/// at every bucket of the last hour.
fn evaluation_times(evaluated: Timestamp, known: Timestamp) -> Vec<Timestamp> {
    if known <= evaluated {
        return Vec::new();
    }
    // Nothing of a new service is caught up: there are no logs of it before.
    if evaluated == Timestamp::MIN {
        return vec![known];
    }
    // In steps, since a fault that began and ended meanwhile would show in no single look at the
    // end.
    let first = evaluated.max(known - CATCH_UP_MAX);
    let steps = (1..).map(|step| first + CATCH_UP_STEP * step);
    steps.take_while(|moment| *moment < known).chain([known]).collect()
}

fn is_open(place: u32, service: &Service) -> bool {
    !service.open.is_empty() && service.open.contains(&place)
}

fn is_match_count(rule: &&Rule) -> bool {
    matches!(rule.measure, RuleKind::MatchCount { .. })
}

fn breach(found: Detection, rule: &Rule) -> Breach {
    let summary = if rule.runbook.is_empty() {
        found.summary
    } else {
        format!("{} ({})", found.summary, rule.runbook)
    };
    Breach {
        confidence: found.confidence,
        severity: found.severity,
        evidence: Evidence {
            summary,
            measured: found.measured,
            started_at: found.started_at,
            ..Evidence::default()
        },
    }
}
