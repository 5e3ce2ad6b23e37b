//! The life of incidents: from a first doubt to firing, and to their end. Pure: what is kept is
//! plain data.
//!
//! What it keeps to:
//! - no way leads from pending to resolved, so that nobody need be told of what was pending only;
//! - event time decides what is over: where it stands still, nothing ends;
//! - of one series at most one incident is open; what comes back gets a new one.
//!
//! What is told of an incident is [`crate::notify`]'s work, and why it may be [`evidence`]'s.

pub mod evidence;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::{Event, Evidence, Incident, IncidentState, Labels, Overlays},
    rule::Severity,
    tracking::{TrackedIncident, Tracking},
};

use crate::detector::detection::Confidence;

const MILLISECOND_NANOS: i64 = 1_000_000;
/// How long a resolved incident is remembered here: as long as it may explain others, and longer
/// than a service that lagged is looked back at.
const RESOLVED_MEMORY: Duration = Duration::from_secs(3_600);
/// Within what time the changes of an incident are counted that make it one that flaps.
const FLAP_WINDOW: Duration = Duration::from_secs(1_800);
/// How many changes within [`FLAP_WINDOW`] make an incident flap: it fired and was over twice.
const FLAP_CHANGES: usize = 4;
/// How far back [`Incidents::fired_lately`] counts: whether something is a service's nature shows
/// in a day.
const FIRED_WINDOW: Duration = Duration::from_secs(86_400);
/// How long a pending incident outlasts the last doubt. A doubt comes and goes with chance.
const PENDING_MEMORY: Duration = Duration::from_secs(30);
/// Incidents of one service that begin within this time belong together.
const GROUP_WINDOW: Duration = Duration::from_secs(600);
/// How far back what was resolved still says something of what is open.
pub const HISTORY: Duration = FIRED_WINDOW;

/// What a rule says of one series at a moment.
#[derive(Debug, Clone)]
pub struct RuleResult<'a> {
    /// The rule and what it tells apart, mostly a service: of one series at most one incident is
    /// open.
    pub series: &'a str,
    /// The moment that is judged, event time.
    pub at: Timestamp,
    /// Event time through which the logs are known: `at`, or later where a moment that has passed is
    /// judged again, as its logs came late.
    pub known_through: Timestamp,
    /// The time of the evaluation.
    pub now: Timestamp,
    /// None if the rule is not breached.
    pub breach: Option<Breach>,
    /// How long the rule must be breached before an incident fires, event time in seconds.
    pub for_seconds: u32,
    /// How long the rule must not be breached before an incident is over, event time in seconds.
    pub keep_firing_seconds: u32,
}

/// That a rule is breached.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// How sure that is.
    pub confidence: Confidence,
    /// How bad it is.
    pub severity: Severity,
    /// What the rule itself knows of it.
    pub evidence: Evidence,
}

/// Where an incident comes from: what it takes over from its rule and service when it begins.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// The tenant whose logs they are.
    pub tenant: &'a str,
    /// The rule's name.
    pub rule: &'a str,
    /// The rule's kind.
    pub kind: &'a str,
    /// The service; empty for the system.
    pub service: &'a str,
    /// The rule's labels.
    pub labels: &'a Labels,
    /// The rule's channels.
    pub channels: &'a [String],
    /// The rule's runbook.
    pub runbook: &'a str,
}

/// An incident that is followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracked {
    /// The incident.
    pub incident: Incident,
    /// What is remembered beside it.
    pub tracking: Tracking,
}

/// All incidents of a tenant that are not over, and those of the last hour.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Incidents {
    /// By the incident's id.
    tracked: BTreeMap<String, Tracked>,
    /// Moments of firing and resolving of each series.
    changes: BTreeMap<String, VecDeque<Timestamp>>,
    /// Moments of firing of each series, over a day.
    fired: BTreeMap<String, VecDeque<Timestamp>>,
    /// The id of the incident of each series that is not over.
    open: HashMap<String, String>,
    /// Ids of incidents that have changed and are to be stored.
    changed: BTreeSet<String>,
}

impl Incidents {
    /// Takes up what was stored: incidents that are not over, and those resolved in the last
    /// [`HISTORY`].
    pub fn restore(stored: Vec<TrackedIncident>, now: Timestamp) -> Self {
        let mut restored = Self::default();
        for TrackedIncident { incident, tracking } in stored {
            restored.take_up(Tracked { incident, tracking }, now);
        }
        // Incidents come in the order of their ids, and these are searched by time.
        let histories = restored.changes.values_mut().chain(restored.fired.values_mut());
        histories.for_each(|moments| moments.make_contiguous().sort_unstable());
        restored
    }

    fn take_up(&mut self, tracked: Tracked, now: Timestamp) {
        let Incident { firing_at, resolved_at, .. } = tracked.incident;
        let series = &tracked.tracking.series;
        let fired = firing_at.filter(|at| now.since(*at) <= FIRED_WINDOW);
        if let Some(at) = fired {
            self.fired.entry(series.clone()).or_default().push_back(at);
        }
        let changed = [firing_at, resolved_at].into_iter().flatten();
        for at in changed.filter(|at| now.since(*at) <= FLAP_WINDOW) {
            self.changes.entry(series.clone()).or_default().push_back(at);
        }
        // That it fired is remembered for a day, itself only for as long as it matters.
        if tracked.is_forgotten(now) {
            return;
        }
        let id = tracked.incident.id.clone();
        if tracked.incident.state != IncidentState::Resolved {
            self.open.insert(series.clone(), id.clone());
        }
        self.tracked.insert(id, tracked);
    }

    /// What is to be stored of an incident; none if it is not followed any longer.
    pub fn stored(&self, id: &str) -> Option<TrackedIncident> {
        let Tracked { incident, tracking } = self.tracked.get(id)?.clone();
        Some(TrackedIncident { incident, tracking })
    }

    /// What is remembered of the incidents that are not over.
    pub fn open_tracking(&self) -> impl Iterator<Item = (&Incident, &Tracking)> {
        let open = self.open.values().filter_map(|id| self.tracked.get(id));
        open.map(|tracked| (&tracked.incident, &tracked.tracking))
    }

    /// The incident of a series that is not over.
    pub fn open(&self, key: &str) -> Option<&Tracked> {
        self.tracked.get(self.open.get(key)?)
    }

    /// How often the incidents of a series fired within a day before one last did, that time
    /// included.
    pub fn fired_lately(&self, key: &str) -> usize {
        self.fired.get(key).map_or(0, VecDeque::len)
    }

    /// An incident by its id.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.tracked.get(id).map(|tracked| &tracked.incident)
    }

    /// Every incident that is known here.
    pub fn iter(&self) -> impl Iterator<Item = &Incident> {
        self.tracked.values().map(|tracked| &tracked.incident)
    }

    /// Incidents that have changed since this was last asked: what is to be written. One that is no
    /// longer known was never more than pending, and is to be deleted.
    pub fn take_changed(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.changed)
    }

    /// Every incident with what is remembered of it, for who tells people of them.
    pub(crate) fn tracked_mut(&mut self) -> impl Iterator<Item = &mut Tracked> {
        self.tracked.values_mut()
    }

    /// An incident was changed from outside, and is to be stored.
    pub(crate) fn mark_changed(&mut self, id: &str) {
        self.changed.insert(id.to_owned());
    }

    /// Forgets what nothing more comes of.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        self.tracked.retain(|_, tracked| !tracked.is_forgotten(now));
        let is_within = |moments: &VecDeque<Timestamp>, window: Duration| {
            moments.back().is_some_and(|at| now.since(*at) <= window)
        };
        self.fired.retain(|_, fired| is_within(fired, FIRED_WINDOW));
        self.changes.retain(|_, changes| is_within(changes, FLAP_WINDOW));
    }

    /// Has the incident of a series follow what its rule says. Returns its id if it has begun to
    /// fire.
    pub fn apply(&mut self, result: &RuleResult<'_>, origin: &Origin<'_>) -> Option<String> {
        let open = self.open.get(result.series).cloned();
        let Some(breach) = &result.breach else {
            if let Some(id) = open {
                self.not_breached(&id, result);
            }
            return None;
        };
        if let Some(id) = open {
            return self.breached(&id, result, breach);
        }
        // What is only enough to go on begins nothing.
        if breach.confidence == Confidence::Sustained || self.is_past(result) {
            return None;
        }
        let id = self.begin(result, origin, breach);
        self.breached(&id, result, breach)
    }

    /// Whether an incident that is over accounts for this moment: a process that takes over
    /// evaluates the last minutes again.
    fn is_past(&self, result: &RuleResult<'_>) -> bool {
        let is_later = |tracked: &Tracked| tracked.tracking.last_breach >= result.at;
        self.tracked
            .values()
            .any(|tracked| is_later(tracked) && tracked.tracking.series == result.series)
    }

    /// Incidents of a rule that are not over.
    pub fn open_of(&self, rule: &str) -> usize {
        let ids = self.open.values().filter_map(|id| self.get(id));
        ids.filter(|incident| incident.rule == rule).count()
    }

    /// Begins a pending incident; returns its id.
    fn begin(&mut self, result: &RuleResult<'_>, origin: &Origin<'_>, breach: &Breach) -> String {
        let id = incident_id(origin.tenant, result.series, result.at);
        let mut labels = origin.labels.clone();
        // After the rule's own, which may not have these names: routes and silences rely on them.
        labels.insert("rule".to_owned(), origin.rule.to_owned());
        if !origin.service.is_empty() {
            labels.insert("service".to_owned(), origin.service.to_owned());
        }
        // Decided once: an incident that changed its group would be told in two threads.
        let group = self.group_of(origin, result.now).unwrap_or_else(|| id.clone());
        let mut incident = Incident {
            id: id.clone(),
            tenant: origin.tenant.to_owned(),
            rule: origin.rule.to_owned(),
            kind: origin.kind.to_owned(),
            service: origin.service.to_owned(),
            labels,
            severity: breach.severity,
            state: IncidentState::Pending,
            overlays: Overlays::default(),
            pending_at: result.now,
            firing_at: None,
            resolved_at: None,
            acknowledged_by: String::new(),
            escalation_level: 0,
            group,
            channels: origin.channels.to_vec(),
            runbook: origin.runbook.to_owned(),
            evidence: breach.evidence.clone(),
            timeline: Vec::new(),
        };
        incident.note(result.now, Event::Pending, "", &breach.evidence.summary);
        self.open.insert(result.series.to_owned(), id.clone());
        let tracking = Tracking {
            series: result.series.to_owned(),
            last_breach: result.known_through,
            notified_severity: breach.severity,
            keep_firing_seconds: result.keep_firing_seconds,
            ..Tracking::default()
        };
        self.tracked.insert(id.clone(), Tracked { incident, tracking });
        id
    }

    /// The group of an incident of the same service that began to fire lately.
    fn group_of(&self, origin: &Origin<'_>, now: Timestamp) -> Option<String> {
        let is_near = |incident: &&Incident| {
            incident.service == origin.service
                && incident.tenant == origin.tenant
                && incident.state.is_active()
                && now.since(incident.pending_at) <= GROUP_WINDOW
        };
        self.iter().find(is_near).map(|incident| incident.group.clone())
    }

    /// The rule is breached: the incident fires once that has been so for long enough, and an
    /// incident that fires goes on. Returns its id if it has begun to fire.
    fn breached(&mut self, id: &str, result: &RuleResult<'_>, breach: &Breach) -> Option<String> {
        let tracked = self.tracked.get_mut(id)?;
        // What was found late holds as long as what was found in time: where logs always come late,
        // that none are there yet does not end an incident.
        tracked.tracking.last_breach = result.known_through;
        tracked.tracking.keep_firing_seconds = result.keep_firing_seconds;
        if tracked.incident.state.is_active() {
            if tracked.worsen(result.now, breach) {
                self.changed.insert(id.to_owned());
            }
            return None;
        }
        // A doubt in between begins the rule's time anew.
        if breach.confidence < Confidence::Certain {
            tracked.tracking.breach_since = None;
            return None;
        }
        // By event time, so that logs which come late make a rule's time no shorter.
        let since = *tracked.tracking.breach_since.get_or_insert(result.at);
        let incident = &mut tracked.incident;
        // Until it fires only the newest counts, for better and worse.
        incident.severity = breach.severity;
        incident.evidence = breach.evidence.clone();
        if result.at < since + Duration::from_secs(result.for_seconds.into()) {
            return None;
        }
        incident.state = IncidentState::Firing;
        incident.firing_at = Some(result.now);
        incident.note(result.now, Event::Firing, "", &breach.evidence.summary);
        tracked.tracking.notified_severity = breach.severity;
        let key = tracked.tracking.series.clone();
        self.mark_change(&key, id, result.now);
        let fired = self.fired.entry(key).or_default();
        fired.retain(|at| result.now.since(*at) <= FIRED_WINDOW);
        fired.push_back(result.now);
        self.changed.insert(id.to_owned());
        Some(id.to_owned())
    }

    /// The rule is not breached: the incident is over once that has been so for long enough.
    fn not_breached(&mut self, id: &str, result: &RuleResult<'_>) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        // Nobody was told of it: it goes without a trace.
        if tracked.incident.state == IncidentState::Pending {
            tracked.tracking.breach_since = None;
            if result.at.since(tracked.tracking.last_breach) > PENDING_MEMORY {
                self.drop_pending(id);
            }
            return;
        }
        let keep = Duration::from_secs(result.keep_firing_seconds.into());
        // Until what comes and goes has stayed away for long it is the same incident.
        let keep = if tracked.incident.overlays.flapping { keep.max(FLAP_WINDOW) } else { keep };
        if result.at >= tracked.tracking.last_breach + keep {
            self.close(id, result.now, "", "");
        }
    }

    fn drop_pending(&mut self, id: &str) {
        if let Some(tracked) = self.tracked.remove(id) {
            self.open.remove(&tracked.tracking.series);
        }
    }

    /// Remembers that an incident of a series fired or was resolved; it flaps if that was often.
    fn mark_change(&mut self, key: &str, id: &str, now: Timestamp) {
        let changes = self.changes.entry(key.to_owned()).or_default();
        changes.retain(|at| now.since(*at) <= FLAP_WINDOW);
        changes.push_back(now);
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        // Once flapping it stays so until it is over: only its next incident may be steady.
        if changes.len() >= FLAP_CHANGES && !tracked.incident.overlays.flapping {
            tracked.incident.overlays.flapping = true;
            tracked.incident.note(now, Event::Flapping, "", "");
        }
    }

    fn close(&mut self, id: &str, now: Timestamp, actor: &str, text: &str) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        tracked.incident.state = IncidentState::Resolved;
        tracked.incident.resolved_at = Some(now);
        tracked.incident.note(now, Event::Resolved, actor, text);
        let key = tracked.tracking.series.clone();
        self.open.remove(&key);
        self.mark_change(&key, id, now);
        self.changed.insert(id.to_owned());
    }

    /// Adds what was found out about an incident to what its rule said.
    pub fn attach(&mut self, id: &str, found: Evidence) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        let evidence = &mut tracked.incident.evidence;
        // Field by field: summary and numbers are the rule's own, and stay.
        evidence.probable_causes = found.probable_causes;
        evidence.deploys = found.deploys;
        evidence.sample_logs = found.sample_logs;
        evidence.instances = found.instances;
        evidence.trace_ids = found.trace_ids;
        evidence.link = found.link;
        self.changed.insert(id.to_owned());
    }

    /// Somebody sees to an incident. Like what follows it, it returns whether there is such an
    /// incident that fires.
    pub fn acknowledge(&mut self, id: &str, actor: &str, now: Timestamp) -> bool {
        self.change(id, |tracked| {
            tracked.incident.state = IncidentState::Acknowledged;
            tracked.incident.acknowledged_by = actor.to_owned();
            tracked.tracking.is_changed = true;
            tracked.incident.note(now, Event::Acknowledged, actor, "");
        })
    }

    /// Nobody sees to it any longer: it escalates from now on.
    pub fn unacknowledge(&mut self, id: &str, actor: &str, now: Timestamp) -> bool {
        self.change(id, |tracked| {
            tracked.incident.state = IncidentState::Firing;
            tracked.incident.acknowledged_by.clear();
            // The time to the next escalation begins now, or it would be over at once.
            tracked.tracking.notified_at = now;
            tracked.incident.note(now, Event::Unacknowledged, actor, "");
        })
    }

    /// Nobody is to be told of it until a moment.
    pub fn snooze(&mut self, id: &str, actor: &str, until: Timestamp, now: Timestamp) -> bool {
        self.change(id, |tracked| {
            tracked.incident.overlays.snoozed_until = Some(until);
            tracked.incident.note(now, Event::Snoozed, actor, "");
        })
    }

    /// Somebody says that it is over. If it is not, a new incident begins.
    pub fn resolve(&mut self, id: &str, actor: &str, text: &str, now: Timestamp) -> bool {
        let is_active = self.get(id).is_some_and(|incident| incident.state.is_active());
        if is_active {
            self.close(id, now, actor, text);
        }
        is_active
    }

    /// No rule asks any longer whether it goes on; `text` says why, for the timeline.
    pub fn end(&mut self, id: &str, text: &str, now: Timestamp) {
        match self.get(id).map(|incident| incident.state) {
            Some(IncidentState::Pending) => self.drop_pending(id),
            Some(state) if state.is_active() => self.close(id, now, "", text),
            _ => {}
        }
    }

    /// A person wrote something.
    pub fn note(&mut self, id: &str, actor: &str, text: &str, now: Timestamp) -> bool {
        self.change(id, |tracked| tracked.incident.note(now, Event::Note, actor, text))
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Tracked)) -> bool {
        let Some(tracked) = self.tracked.get_mut(id) else { return false };
        if !tracked.incident.state.is_active() {
            return false;
        }
        change(tracked);
        self.changed.insert(id.to_owned());
        true
    }
}

impl Tracked {
    /// Whether it is over and told, and so long ago that nothing more comes of it.
    fn is_forgotten(&self, now: Timestamp) -> bool {
        let resolved = self.incident.resolved_at;
        self.tracking.is_closed && resolved.is_some_and(|at| now.since(at) >= RESOLVED_MEMORY)
    }

    /// Whether it fired and was over within one evaluation, because its logs came late, so that
    /// there was no time yet to tell of it.
    pub(crate) fn is_untold(&self) -> bool {
        let Incident { firing_at, resolved_at, .. } = self.incident;
        let is_open = self.tracking.sequence == 0 && !self.tracking.is_closed;
        is_open && resolved_at.is_some() && firing_at == resolved_at
    }

    /// Keeps the evidence and the severity up to date while it fires; whether that changed
    /// anything.
    fn worsen(&mut self, now: Timestamp, breach: &Breach) -> bool {
        if breach.confidence == Confidence::Sustained {
            return false;
        }
        let incident = &mut self.incident;
        let extent = |evidence: &Evidence| {
            evidence.measured.first().map_or(0.0, |m| (m.now - m.normal.unwrap_or(0.0)).abs())
        };
        // The worst is what people want to know. What only keeps the incident up is not worse by
        // itself.
        let is_further = extent(&breach.evidence) > extent(&incident.evidence);
        if is_further {
            incident.evidence.summary.clone_from(&breach.evidence.summary);
            incident.evidence.measured.clone_from(&breach.evidence.measured);
        }
        let is_worse = breach.severity > incident.severity;
        if is_worse {
            incident.severity = breach.severity;
            incident.note(now, Event::Escalated, "", &breach.evidence.summary);
        }
        is_further || is_worse
    }
}

/// The id of an incident: made of its series and the event time at which it began, so that it is
/// the same after a restart, and another for what comes later however late both are evaluated.
fn incident_id(tenant: &str, series: &str, at: Timestamp) -> String {
    // Milliseconds first, so that ids sort by time. 32 bits of the series are enough: only series
    // that began in the same millisecond can share an id.
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{tenant}\u{1f}{series}").as_bytes());
    format!("{:012x}{:08x}", at.as_unix_nanos() / MILLISECOND_NANOS, (hash >> 32) as u32)
}

#[cfg(test)]
mod tests;
