//! Evaluates every rule for every service of a tenant, and keeps the incidents.
//!
//! Whoever drives it feeds rows and asks for a verdict every two seconds:
//! 1. [`Engine::observe`], [`Engine::observe_pattern`], [`Engine::observe_matches`] and
//!    [`Engine::observe_system`] for what is new;
//! 2. [`Engine::evaluate`]: returns what fires just now and wants evidence;
//! 3. [`Engine::attach`] for each of these;
//! 4. [`Engine::tell`]: the notifications, to be written in one transaction with
//!    [`Engine::take_touched`].
//!
//! A service is judged at the moment through which its logs are known, its watermark. Where that
//! stands still nothing is judged: a pipeline that lags never resolves anything, and silences nobody.
//!
//! The sums over a window are made once for a service; the rules that ask for it share them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use logweir_incident::{
    incident::{Evidence, Incident, IncidentState, Measured},
    notification::Notification,
    policy::Reminders,
    rule::{Direction, INCIDENTS_PER_RULE_MAX, Rule, RuleKind, Threshold},
    suppression::{Suppression, matches_text},
};

use crate::{
    judge::{Finding, Moment, Sureness, Watched, figure},
    keeper::{Breach, Keeper, Observed, Origin},
    normal::Abnormal,
    novelty::{NewPattern, Novelty},
    system::{System, SystemReport},
    window::{Row, Rows},
};

/// How late a log may come and still count at once.
pub const LATENESS_NANOS: i64 = 2 * SECOND;
/// How often to evaluate.
pub const EVALUATE_NANOS: i64 = 2 * SECOND;
/// Services that are watched; more are not, and are counted.
pub const SERVICES_MAX: usize = 10_000;
/// How far back a service that lagged is judged, and at what steps.
const CATCH_UP_NANOS: i64 = 3_600 * SECOND;
const CATCH_UP_STEP_NANOS: i64 = 10 * SECOND;
/// After so long what an incident calls abnormal is the new normal.
const ACCEPT_NANOS: i64 = 6 * 3_600 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// An incident that fires just now, and where to look for its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// The incident.
    pub incident_id: String,
    /// Its service; empty for the system.
    pub service: String,
    /// Its rule's kind, as [`crate::evidence::Symptom::of`] takes it.
    pub kind: String,
    /// When it began.
    pub from_unix_nano: i64,
    /// Through when logs are known.
    pub to_unix_nano: i64,
}

/// What a rule asks for, shared by all that ask the same.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    ErrorShare,
    Errors,
    Logs,
    Anomalies,
    /// Milliseconds below which the share lies.
    Latency(f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Asked {
    number: Number,
    window_seconds: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Answer {
    value: f64,
    /// Usual at this time; none if not known.
    normal: Option<f64>,
    support: f64,
}

/// How a rule is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Plan {
    /// A number against a threshold: which of [`Engine::asked`].
    Number { asked: usize, threshold: Threshold, is_down: bool },
    /// One of the judge's verdicts, or one with a way of its own.
    Special,
    /// Not of a service.
    System,
}

struct Service {
    watched: Watched,
    novelty: Novelty,
    /// Through which moment it was judged.
    judged_unix_nano: i64,
    watermark_unix_nano: Option<i64>,
    /// Rules that hold for it, ascending; renewed when rules change.
    rules: Vec<u32>,
    /// Rules with an incident that is not over.
    open: HashSet<u32>,
    abnormal: Abnormal,
}

/// Rules, what they watch, and what they found. See the module's documentation.
pub struct Engine {
    tenant: String,
    rules: Vec<Rule>,
    plans: Vec<Plan>,
    asked: Vec<Asked>,
    services: BTreeMap<String, Service>,
    matches: HashMap<(String, String), Rows>,
    system: System,
    keeper: Keeper,
    suppression: Suppression,
    reminders: Reminders,
    services_refused: u64,
    incidents_refused: u64,
    /// Whether there may be incidents that no rule watches any longer.
    has_orphans: bool,
}

impl Engine {
    /// With these rules, and with the incidents of a former run.
    pub fn new(tenant: &str, rules: Vec<Rule>, keeper: Keeper) -> Self {
        let mut engine = Self {
            tenant: tenant.to_owned(),
            rules: Vec::new(),
            plans: Vec::new(),
            asked: Vec::new(),
            services: BTreeMap::new(),
            matches: HashMap::new(),
            system: System::default(),
            keeper,
            suppression: Suppression::default(),
            reminders: Reminders::default(),
            services_refused: 0,
            incidents_refused: 0,
            has_orphans: true,
        };
        engine.set_rules(rules);
        engine
    }

    /// Takes other rules from now on. What fires by a rule that is gone is resolved.
    pub fn set_rules(&mut self, rules: Vec<Rule>) {
        // Of another filter nothing has been counted yet.
        let old: HashSet<&str> = {
            let is_kept = |rule: &&Rule| rules.contains(rule);
            self.rules.iter().filter(is_match_count).filter(is_kept).map(|r| &*r.name).collect()
        };
        self.matches.retain(|(rule, _), _| old.contains(rule.as_str()));
        self.rules = rules;
        self.has_orphans = true;
        self.asked.clear();
        self.plans = (0..self.rules.len()).map(|rule| self.plan(rule)).collect();
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let (rules, open) = self.rules_of(&name);
            if let Some(service) = self.services.get_mut(&name) {
                (service.rules, service.open) = (rules, open);
            }
        }
    }

    fn rules_of(&self, service: &str) -> (Vec<u32>, HashSet<u32>) {
        let numbers = (0..self.rules.len()).filter(|&number| {
            let rule = &self.rules[number];
            rule.enabled && self.plans[number] != Plan::System && selects(rule, service)
        });
        let rules: Vec<u32> = numbers.filter_map(|number| u32::try_from(number).ok()).collect();
        let is_open = |rule: &&u32| {
            self.keeper.open(&key(&self.rules[**rule as usize].name, service)).is_some()
        };
        let open = rules.iter().filter(is_open).copied().collect();
        (rules, open)
    }

    /// Who wants to hear nothing.
    pub fn set_suppression(&mut self, suppression: Suppression) {
        self.suppression = suppression;
    }

    /// How often people are told.
    pub fn set_reminders(&mut self, reminders: Reminders) {
        self.reminders = reminders;
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The incidents, to look at and to keep.
    pub const fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The incidents, for what people do with them.
    pub const fn keeper_mut(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// Services that were not watched for lack of room.
    pub const fn services_refused(&self) -> u64 {
        self.services_refused
    }

    /// Findings that became no incident because their rule has [`INCIDENTS_PER_RULE_MAX`].
    pub const fn incidents_refused(&self) -> u64 {
        self.incidents_refused
    }

    fn plan(&mut self, rule: usize) -> Plan {
        let (number, window_seconds, threshold, is_down) = match self.rules[rule].measure {
            RuleKind::ErrorRate { window_seconds, threshold } => {
                (Number::ErrorShare, window_seconds, threshold, false)
            }
            RuleKind::ErrorCount { window_seconds, threshold } => {
                (Number::Errors, window_seconds, threshold, false)
            }
            RuleKind::Volume { window_seconds, direction, threshold } => {
                (Number::Logs, window_seconds, threshold, direction == Direction::Down)
            }
            RuleKind::Latency { window_seconds, percentile, threshold } => {
                (Number::Latency(percentile), window_seconds, threshold, false)
            }
            RuleKind::AnomalyCount { window_seconds, threshold } => {
                (Number::Anomalies, window_seconds, threshold, false)
            }
            RuleKind::ProcessorSilence { .. }
            | RuleKind::DeadLetters { .. }
            | RuleKind::SdkLoss { .. }
            | RuleKind::QueueLag { .. } => return Plan::System,
            _ => return Plan::Special,
        };
        if threshold == Threshold::Unusual && number != Number::Anomalies {
            return Plan::Special;
        }
        let asked = Asked { number, window_seconds };
        let found = self.asked.iter().position(|other| *other == asked);
        let asked = found.unwrap_or_else(|| {
            self.asked.push(asked);
            self.asked.len() - 1
        });
        Plan::Number { asked, threshold, is_down }
    }

    fn service(&mut self, name: &str) -> Option<&mut Service> {
        if !self.services.contains_key(name) {
            if self.services.len() >= SERVICES_MAX {
                self.services_refused += 1;
                return None;
            }
            let (rules, open) = self.rules_of(name);
            let service = Service {
                watched: Watched::default(),
                novelty: Novelty::default(),
                judged_unix_nano: i64::MIN,
                watermark_unix_nano: Some(i64::MAX),
                rules,
                open,
                abnormal: Abnormal::default(),
            };
            self.services.insert(name.to_owned(), service);
        }
        self.services.get_mut(name)
    }

    /// Takes in a bucket of a service, so far; the last hour of them is kept.
    pub fn observe(&mut self, service: &str, row: Row) {
        if let Some(service) = self.service(service) {
            service.watched.put(row);
        }
    }

    /// Takes in a bucket of the past, to learn from only; ascending, and before any evaluation.
    pub fn replay(&mut self, service: &str, row: Row) {
        let end = (row.start_seconds + 10) * SECOND;
        if let Some(service) = self.service(service) {
            service.novelty.known_since(end - 10 * SECOND);
            service.watched.put(row);
            service.watched.pass(end, Abnormal::default());
            service.judged_unix_nano = end;
        }
    }

    /// Takes in a pattern that was new in the past, to learn from only; ascending by the first log.
    pub fn replay_pattern(&mut self, service: &str, pattern: &NewPattern) {
        if let Some(service) = self.service(service) {
            service.novelty.recall(pattern);
        }
    }

    /// Takes in a pattern that is less than [`crate::novelty::NEW_NANOS`] old, as counted so far.
    pub fn observe_pattern(&mut self, service: &str, pattern: NewPattern) {
        if let Some(service) = self.service(service) {
            service.novelty.put(pattern);
        }
    }

    /// Takes in how many logs of a service that is watched matched a rule's filter in a bucket, as far
    /// as could be seen.
    pub fn observe_matches(&mut self, rule: &str, service: &str, row: Row) {
        if !self.services.contains_key(service) {
            return;
        }
        let rows = self.matches.entry((rule.to_owned(), service.to_owned())).or_default();
        // A bucket that has passed partly out of sight was seen whole before.
        if rows.at(row.start_seconds).is_none_or(|seen| seen.total <= row.total) {
            rows.put(row);
        }
    }

    /// Takes in how the system itself does.
    pub fn observe_system(&mut self, report: SystemReport) {
        self.system.put(report);
    }

    /// Says through when the logs of a service are known; none while that is not known. Without a
    /// word all is known at once.
    pub fn set_watermark(&mut self, service: &str, through_unix_nano: Option<i64>) {
        if let Some(service) = self.service(service) {
            service.watermark_unix_nano = through_unix_nano;
        }
    }

    /// From when on the next evaluation wants rows: a service that lagged is judged from where it was
    /// left.
    pub fn wanted_from(&self, now_unix_nano: i64) -> i64 {
        let is_known =
            |of: &&Service| of.watermark_unix_nano.is_some() && of.judged_unix_nano != i64::MIN;
        let judged = self.services.values().filter(is_known).map(|of| of.judged_unix_nano);
        let earliest = now_unix_nano.saturating_sub(CATCH_UP_NANOS);
        judged.min().unwrap_or(now_unix_nano).clamp(earliest, now_unix_nano)
    }

    /// Judges everything. Returns what has begun to fire.
    pub fn evaluate(&mut self, now_unix_nano: i64) -> Vec<EvidenceRequest> {
        let mut requests = Vec::new();
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let Some(mut service) = self.services.remove(&name) else { continue };
            let at = service.watermark_unix_nano.map(|w| w.min(now_unix_nano - LATENESS_NANOS));
            let judged = service.judged_unix_nano;
            for at in at.into_iter().flat_map(|at| moments(judged, at)) {
                service.judged_unix_nano = at;
                self.judge(&name, &mut service, at, now_unix_nano, &mut requests);
            }
            self.services.insert(name, service);
        }
        self.judge_system(now_unix_nano, &mut requests);
        self.end_orphans(now_unix_nano);
        requests
    }

    /// Adds evidence to what fires.
    pub fn attach(&mut self, incident_id: &str, evidence: Evidence) {
        self.keeper.attach(incident_id, evidence);
    }

    /// What is to be told now.
    pub fn tell(&mut self, now_unix_nano: i64) -> Vec<Notification> {
        self.keeper.tell(now_unix_nano, &self.suppression, &self.reminders)
    }

    /// See [`Keeper::take_touched`].
    pub fn take_touched(&mut self) -> BTreeSet<String> {
        self.keeper.take_touched()
    }

    fn judge(
        &mut self,
        name: &str,
        service: &mut Service,
        at: i64,
        now: i64,
        requests: &mut Vec<EvidenceRequest>,
    ) {
        let moment = service.watched.pass(at, service.abnormal);
        let answers: Vec<Answer> =
            self.asked.iter().map(|asked| answer(&service.watched, &moment, *asked)).collect();
        let rules = std::mem::take(&mut service.rules);
        for &number in &rules {
            let is_open = !service.open.is_empty() && service.open.contains(&number);
            let rule = number as usize;
            let is_active = is_open && self.is_active(rule, name);
            let finding = match self.plans[rule] {
                Plan::Number { asked, threshold, is_down } => {
                    let line = line(answers[asked], threshold);
                    let rule = &self.rules[rule];
                    let is_breach = holds(&answers[asked], line, is_down, rule, is_active);
                    if !is_breach && !is_open {
                        continue;
                    }
                    is_breach.then(|| number_finding(rule, &answers[asked], line, is_down, &moment))
                }
                Plan::Special => self.special(rule, name, service, &moment, is_active),
                Plan::System => continue,
            };
            if finding.is_none() && !is_open {
                continue;
            }
            let (request, is_open) = self.settle(rule, name, at, now, finding);
            if is_open {
                service.open.insert(number);
            } else {
                service.open.remove(&number);
            }
            requests.extend(request);
        }
        service.rules = rules;
        self.mark_abnormal(name, service, now);
    }

    fn special(
        &self,
        rule: usize,
        name: &str,
        service: &mut Service,
        moment: &Moment,
        is_active: bool,
    ) -> Option<Finding> {
        let watched = &service.watched;
        let rule = &self.rules[rule];
        match &rule.measure {
            RuleKind::ErrorRate { .. } | RuleKind::ErrorCount { .. } => {
                let found = watched.errors(moment, is_active);
                if is_active && found.is_some() {
                    service.watched.held_unix_nano[0] = moment.at_unix_nano;
                }
                found
            }
            RuleKind::Latency { .. } => {
                let found = watched.latency(moment, is_active);
                if is_active && found.is_some() {
                    service.watched.held_unix_nano[1] = moment.at_unix_nano;
                }
                found
            }
            RuleKind::Volume { direction: Direction::Down, .. } => watched.drop(moment, is_active),
            RuleKind::Volume { direction: Direction::Up, .. } => watched.surge(moment, is_active),
            RuleKind::ServiceSilence { .. } => watched.silence(moment, is_active),
            RuleKind::NewPattern { .. } if service.novelty.is_empty() => None,
            RuleKind::NewPattern { level, hits } => {
                service.novelty.judge(&watched.rows, moment.at_unix_nano, *level, *hits)
            }
            RuleKind::MatchCount { window_seconds, threshold, .. } => {
                let rows = self.matches.get(&(rule.name.clone(), name.to_owned()))?;
                let [sums] = rows.sums(moment.at_unix_nano, [full(*window_seconds)], [0, 0]);
                let answer = Answer { value: sums.total, normal: None, support: sums.total };
                let line = line(answer, *threshold);
                holds(&answer, line, false, rule, is_active)
                    .then(|| number_finding(rule, &answer, line, false, moment))
            }
            RuleKind::BurnRate { objective, long_window_seconds, short_window_seconds, factor } => {
                let budget = (1.0 - objective).max(1e-9);
                let burn = |seconds| {
                    let (errors, logs) = watched.errors_over(moment.at_unix_nano, seconds);
                    (errors / logs.max(1.0) / budget, logs)
                };
                let (long, short) = (burn(*long_window_seconds), burn(*short_window_seconds));
                let answer =
                    Answer { value: long.0.min(short.0), normal: Some(1.0), support: long.1 };
                holds(&answer, Some(*factor), false, rule, is_active)
                    .then(|| number_finding(rule, &answer, Some(*factor), false, moment))
            }
            _ => None,
        }
    }

    fn is_active(&self, rule: usize, service: &str) -> bool {
        let open = self.keeper.open(&key(&self.rules[rule].name, service));
        open.is_some_and(|tracked| tracked.incident.state.is_active())
    }

    fn settle(
        &mut self,
        rule: usize,
        service: &str,
        at: i64,
        now: i64,
        finding: Option<Finding>,
    ) -> (Option<EvidenceRequest>, bool) {
        let rule = &self.rules[rule];
        let key = key(&rule.name, service);
        let is_full = finding.is_some()
            && self.keeper.open(&key).is_none()
            && self.keeper.open_of(&rule.name) >= INCIDENTS_PER_RULE_MAX;
        if is_full {
            self.incidents_refused += 1;
            return (None, false);
        }
        let started = finding.as_ref().map_or(at, |finding| finding.started_unix_nano);
        let origin = Origin {
            tenant: &self.tenant,
            rule: &rule.name,
            kind: kind_of(&rule.measure),
            service,
            labels: &rule.labels,
            channels: &rule.channels,
            runbook: &rule.runbook,
        };
        let observed = Observed {
            key: &key,
            at_unix_nano: at,
            now_unix_nano: now,
            breach: finding.map(|finding| breach(finding, rule)),
            for_seconds: rule.for_seconds,
            keep_firing_seconds: rule.keep_firing_seconds,
        };
        let fires = self.keeper.observe(&observed, &origin).map(|incident_id| EvidenceRequest {
            incident_id,
            service: service.to_owned(),
            kind: origin.kind.to_owned(),
            from_unix_nano: started,
            to_unix_nano: at,
        });
        (fires, self.keeper.open(&key).is_some())
    }

    /// What an incident says is not normal is not to be learnt.
    fn mark_abnormal(&self, name: &str, service: &mut Service, now: i64) {
        let before = service.abnormal;
        let mut abnormal = Abnormal::default();
        for &rule in &service.open {
            let Some(tracked) = self.keeper.open(&key(&self.rules[rule as usize].name, name))
            else {
                continue;
            };
            let incident = &tracked.incident;
            let is_old = now - incident.pending_unix_nano > ACCEPT_NANOS;
            // What goes wrong a third time in a day is its nature, as far as anybody can tell.
            let is_nature = self.keeper.fired_lately(&tracked.tracking.series) >= 3;
            let is_young = service.watched.normal.usual().is_young();
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
        service.watched.forget_fresh(Abnormal {
            errors: abnormal.errors && !before.errors,
            latency: abnormal.latency && !before.latency,
            volume: abnormal.volume && !before.volume,
        });
    }

    fn judge_system(&mut self, now: i64, requests: &mut Vec<EvidenceRequest>) {
        for rule in 0..self.rules.len() {
            if self.plans[rule] != Plan::System || !self.rules[rule].enabled {
                continue;
            }
            for (subject, finding) in self.system.judge(&self.rules[rule].measure, now) {
                let is_open = self.keeper.open(&key(&self.rules[rule].name, &subject)).is_some();
                if finding.is_some() || is_open {
                    requests.extend(self.settle(rule, &subject, now, now, finding).0);
                }
            }
        }
    }

    /// Ends what no rule asks about any longer: the rule is gone, or no longer selects the service.
    fn end_orphans(&mut self, now: i64) {
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
            self.keeper.incidents().filter(is_gone).map(|i| i.id.clone()).collect();
        for id in gone {
            self.keeper.end(&id, "its rule is gone", now);
        }
    }
}

/// The moments to judge between two: a service that lagged is judged as it would have been, at every
/// bucket of the last hour.
fn moments(judged: i64, at: i64) -> Vec<i64> {
    if at <= judged {
        return Vec::new();
    }
    if judged == i64::MIN {
        return vec![at];
    }
    let first = judged.max(at.saturating_sub(CATCH_UP_NANOS));
    let steps = (1..).map(|step| first.saturating_add(step * CATCH_UP_STEP_NANOS));
    steps.take_while(|moment| *moment < at).chain([at]).collect()
}

fn is_match_count(rule: &&Rule) -> bool {
    matches!(rule.measure, RuleKind::MatchCount { .. })
}

/// Whether a rule holds for a service.
fn selects(rule: &Rule, service: &str) -> bool {
    rule.services.is_empty() || rule.services.iter().any(|name| matches_text(name, service))
}

/// Whether a rule still asks what an incident of its name answers.
fn asks_about(rule: &Rule, incident: &Incident) -> bool {
    let is_system = incident.service.is_empty() || matches!(rule.measure, RuleKind::SdkLoss { .. });
    incident.kind == kind_of(&rule.measure) && (is_system || selects(rule, &incident.service))
}

fn key(rule: &str, service: &str) -> String {
    format!("{rule}\u{1f}{service}")
}

/// A volume's two directions are told apart.
fn kind_of(measure: &RuleKind) -> &'static str {
    match measure {
        RuleKind::Volume { direction: Direction::Down, .. } => "volume_down",
        RuleKind::Volume { direction: Direction::Up, .. } => "volume_up",
        other => other.name(),
    }
}

fn breach(finding: Finding, rule: &Rule) -> Breach {
    Breach {
        is_weak: finding.sureness == Sureness::Holds,
        is_doubt: finding.sureness == Sureness::Doubt,
        severity: finding.severity,
        evidence: Evidence {
            summary: if rule.runbook.is_empty() {
                finding.summary
            } else {
                format!("{} ({})", finding.summary, rule.runbook)
            },
            measured: finding.measured,
            started_unix_nano: finding.started_unix_nano,
            ..Evidence::default()
        },
    }
}

/// Full buckets of a window, besides the open one.
const fn full(window_seconds: u32) -> i64 {
    let buckets = window_seconds as i64 / 10 - 1;
    if buckets < 0 { 0 } else { buckets }
}

fn answer(watched: &Watched, moment: &Moment, asked: Asked) -> Answer {
    let usual = watched.normal.usual();
    let buckets = full(asked.window_seconds);
    let [sums] = watched.rows.sums(moment.at_unix_nano, [buckets], usual.slow_from);
    let is_known = usual.spans > 0;
    let known = |normal: f64| is_known.then_some(normal);
    match asked.number {
        Number::ErrorShare => Answer {
            value: sums.errors / sums.total.max(1.0),
            normal: known(usual.shares[0]),
            support: sums.total,
        },
        Number::Errors => Answer {
            value: sums.errors,
            normal: known(usual.errors_per_second * sums.seconds),
            support: sums.total,
        },
        Number::Logs => Answer {
            value: sums.total,
            normal: known(usual.rate * sums.seconds),
            support: sums.total,
        },
        Number::Anomalies => Answer { value: sums.anomalies, normal: None, support: sums.total },
        Number::Latency(quantile) => Answer {
            value: watched.rows.latency_ms(moment.at_unix_nano, buckets, quantile),
            normal: known(watched.normal.latency_ms(quantile)),
            support: sums.timed,
        },
    }
}

/// Where a rule draws the line; none without enough history.
fn line(answer: Answer, threshold: Threshold) -> Option<f64> {
    match threshold {
        Threshold::Absolute(line) => Some(line),
        Threshold::Relative(factor) => answer.normal.filter(|n| *n > 0.0).map(|n| n * factor),
        // Of what has no baseline: ten in a thousand logs.
        Threshold::Unusual => Some((answer.support * 0.01).max(10.0)),
    }
}

fn holds(answer: &Answer, line: Option<f64>, is_down: bool, rule: &Rule, is_active: bool) -> bool {
    let Some(line) = line else { return false };
    if is_down {
        let line = if is_active { line / rule.recovery_share.max(0.01) } else { line };
        return answer.value < line;
    }
    let line = if is_active { line * rule.recovery_share } else { line };
    answer.value > line && answer.support >= rule.minimum_support as f64
}

fn number_finding(
    rule: &Rule,
    answer: &Answer,
    line: Option<f64>,
    is_down: bool,
    moment: &Moment,
) -> Finding {
    let normal = answer.normal.map_or(String::new(), |n| format!(", normal {}", figure(n)));
    let word = if is_down { "below" } else { "above" };
    let summary = format!(
        "{}: {}{normal}, {word} {}",
        rule.measure.name().replace('_', " "),
        figure(answer.value),
        figure(line.unwrap_or_default())
    );
    Finding {
        sureness: Sureness::Certain,
        severity: rule.severity,
        summary,
        measured: vec![Measured {
            name: rule.measure.name().to_owned(),
            now: answer.value,
            normal: answer.normal,
            threshold: line,
            support: answer.support as u64,
        }],
        started_unix_nano: moment.at_unix_nano,
    }
}
