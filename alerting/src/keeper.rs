//! The life of incidents, and what is told of it. Pure: what it keeps is plain data.
//!
//! It is called in three steps, which belong into one transaction: [`Keeper::observe`] for what each
//! rule says, [`Keeper::attach`] for the evidence of what fires, [`Keeper::tell`] for the notifications.
//!
//! What it keeps to:
//! - nobody is told of an incident that was pending only;
//! - "resolved" is told where "opened" was, and only there;
//! - event time decides what is over: where it stands still, nothing ends.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use logweir_incident::{
    incident::{Event, Evidence, Incident, IncidentState, Labels},
    notification::{Notification, NotificationKind},
    policy::Reminders,
    rule::Severity,
    suppression::Suppression,
    tracking::{TrackedIncident, Tracking},
};

const SECOND: i64 = 1_000_000_000;
/// How long a resolved incident is remembered here.
const RESOLVED_NANOS: i64 = 3_600 * SECOND;
/// Changes within this time make an incident that flaps.
const FLAP_NANOS: i64 = 1_800 * SECOND;
const FLAP_CHANGES: usize = 4;
/// How long an incident that is over still explains others.
const AFTERMATH_NANOS: i64 = 600 * SECOND;
/// Incidents of a key within this time that say that it is restless by nature.
const RESTLESS_NANOS: i64 = 86_400 * SECOND;
/// How far back what was resolved still says something of what is open.
pub const HISTORY: Duration = Duration::from_nanos(RESTLESS_NANOS.unsigned_abs());

/// What a rule says of one service at a moment.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// What it is told apart by: unique for rule and labels.
    pub key: &'a str,
    /// Event time through which the logs are known.
    pub at_unix_nano: i64,
    /// Now.
    pub now_unix_nano: i64,
    /// None if the rule does not hold.
    pub breach: Option<Breach>,
    /// The rule's, in seconds.
    pub for_seconds: u32,
    /// The rule's, in seconds.
    pub keep_firing_seconds: u32,
}

/// That a rule holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Breach {
    /// Only keeps up what fires.
    pub is_weak: bool,
    /// Only makes pending.
    pub is_doubt: bool,
    /// How bad.
    pub severity: Severity,
    /// What is known.
    pub evidence: Evidence,
}

/// What an incident of a rule and service begins with.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// Whose logs.
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

/// All incidents that are not over, and those of the last hour.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Keeper {
    tracked: BTreeMap<String, Tracked>,
    /// Moments of firing and resolving of each series.
    changes: BTreeMap<String, VecDeque<i64>>,
    /// Moments of firing of each series, over a day.
    fired: BTreeMap<String, VecDeque<i64>>,
    /// The incident of each series that is not over.
    open: HashMap<String, String>,
    touched: BTreeSet<String>,
}

impl Keeper {
    /// Takes up what was stored: incidents that are not over, and those resolved in the last
    /// [`HISTORY`].
    pub fn restore(stored: Vec<TrackedIncident>, now_unix_nano: i64) -> Self {
        let mut restored = Self::default();
        for TrackedIncident { incident, tracking } in stored {
            restored.take_up(Tracked { incident, tracking }, now_unix_nano);
        }
        let histories = restored.changes.values_mut().chain(restored.fired.values_mut());
        histories.for_each(|moments| moments.make_contiguous().sort_unstable());
        restored
    }

    fn take_up(&mut self, tracked: Tracked, now_unix_nano: i64) {
        let Incident { firing_unix_nano, resolved_unix_nano, .. } = tracked.incident;
        let series = &tracked.tracking.series;
        let fired = firing_unix_nano.filter(|at| now_unix_nano - at <= RESTLESS_NANOS);
        if let Some(at) = fired {
            self.fired.entry(series.clone()).or_default().push_back(at);
        }
        let changed = [firing_unix_nano, resolved_unix_nano].into_iter().flatten();
        for at in changed.filter(|at| now_unix_nano - at <= FLAP_NANOS) {
            self.changes.entry(series.clone()).or_default().push_back(at);
        }
        if tracked.is_forgotten(now_unix_nano) {
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

    /// The incident of a key that is not over.
    pub fn open(&self, key: &str) -> Option<&Tracked> {
        self.tracked.get(self.open.get(key)?)
    }

    /// How often the incidents of a key fired within a day before it last did, that time included.
    pub fn fired_lately(&self, key: &str) -> usize {
        self.fired.get(key).map_or(0, VecDeque::len)
    }

    /// An incident.
    pub fn get(&self, id: &str) -> Option<&Incident> {
        self.tracked.get(id).map(|tracked| &tracked.incident)
    }

    /// Every incident that is known here.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.tracked.values().map(|tracked| &tracked.incident)
    }

    /// Incidents that have changed since this was last asked: what is to be written. One that is no
    /// longer known was never more than pending, and is to be deleted.
    pub fn take_touched(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// Takes in what a rule says. Returns the id if it has begun to fire and wants evidence.
    pub fn observe(&mut self, observed: &Observed<'_>, origin: &Origin<'_>) -> Option<String> {
        let id = self.open.get(observed.key).cloned();
        match (id, &observed.breach) {
            (None, Some(breach)) if !breach.is_weak && !self.is_past(observed) => {
                let id = self.begin(observed, origin, breach);
                self.advance(&id, observed, breach)
            }
            (Some(id), Some(breach)) => self.advance(&id, observed, breach),
            (Some(id), None) => {
                self.recede(&id, observed);
                None
            }
            (None, _) => None,
        }
    }

    /// Whether an incident that is over accounts for this moment: a process that takes over judges
    /// the last minutes again.
    fn is_past(&self, observed: &Observed<'_>) -> bool {
        let is_later =
            |tracked: &Tracked| tracked.tracking.last_breach_unix_nano >= observed.at_unix_nano;
        self.tracked
            .values()
            .any(|tracked| is_later(tracked) && tracked.tracking.series == observed.key)
    }

    /// Incidents of a rule that are not over.
    pub fn open_of(&self, rule: &str) -> usize {
        let ids = self.open.values().filter_map(|id| self.get(id));
        ids.filter(|incident| incident.rule == rule).count()
    }

    fn begin(&mut self, observed: &Observed<'_>, origin: &Origin<'_>, breach: &Breach) -> String {
        let id = incident_id(origin.tenant, observed.key, observed.at_unix_nano);
        let mut labels = origin.labels.clone();
        labels.insert("rule".to_owned(), origin.rule.to_owned());
        if !origin.service.is_empty() {
            labels.insert("service".to_owned(), origin.service.to_owned());
        }
        let group = self.group_of(origin, observed.now_unix_nano).unwrap_or_else(|| id.clone());
        let mut incident = Incident {
            id: id.clone(),
            tenant: origin.tenant.to_owned(),
            rule: origin.rule.to_owned(),
            kind: origin.kind.to_owned(),
            service: origin.service.to_owned(),
            labels,
            severity: breach.severity,
            state: IncidentState::Pending,
            overlays: logweir_incident::incident::Overlays::default(),
            pending_unix_nano: observed.now_unix_nano,
            firing_unix_nano: None,
            resolved_unix_nano: None,
            acknowledged_by: String::new(),
            escalation_level: 0,
            group,
            channels: origin.channels.to_vec(),
            runbook: origin.runbook.to_owned(),
            evidence: breach.evidence.clone(),
            timeline: Vec::new(),
        };
        incident.note(observed.now_unix_nano, Event::Pending, "", &breach.evidence.summary);
        self.open.insert(observed.key.to_owned(), id.clone());
        let tracking = Tracking {
            series: observed.key.to_owned(),
            last_breach_unix_nano: observed.at_unix_nano,
            notified_severity: breach.severity,
            keep_firing_seconds: observed.keep_firing_seconds,
            ..Tracking::default()
        };
        self.tracked.insert(id.clone(), Tracked { incident, tracking });
        id
    }

    /// The group of an incident of the same service that began to fire lately.
    fn group_of(&self, origin: &Origin<'_>, now_unix_nano: i64) -> Option<String> {
        let is_near = |incident: &&Incident| {
            incident.service == origin.service
                && incident.tenant == origin.tenant
                && incident.state.is_active()
                && now_unix_nano - incident.pending_unix_nano <= 600 * SECOND
        };
        self.incidents().find(is_near).map(|incident| incident.group.clone())
    }

    /// It holds.
    fn advance(&mut self, id: &str, observed: &Observed<'_>, breach: &Breach) -> Option<String> {
        let tracked = self.tracked.get_mut(id)?;
        tracked.tracking.last_breach_unix_nano = observed.at_unix_nano;
        tracked.tracking.keep_firing_seconds = observed.keep_firing_seconds;
        if tracked.incident.state.is_active() {
            if tracked.worsen(observed.now_unix_nano, breach) {
                self.touched.insert(id.to_owned());
            }
            return None;
        }
        if breach.is_doubt || breach.is_weak {
            tracked.tracking.breach_since_unix_nano = None;
            return None;
        }
        let since = *tracked.tracking.breach_since_unix_nano.get_or_insert(observed.at_unix_nano);
        let incident = &mut tracked.incident;
        incident.severity = breach.severity;
        incident.evidence = breach.evidence.clone();
        if observed.at_unix_nano - since < i64::from(observed.for_seconds) * SECOND {
            return None;
        }
        incident.state = IncidentState::Firing;
        incident.firing_unix_nano = Some(observed.now_unix_nano);
        incident.note(observed.now_unix_nano, Event::Firing, "", &breach.evidence.summary);
        tracked.tracking.notified_severity = breach.severity;
        let key = tracked.tracking.series.clone();
        self.mark_change(&key, id, observed.now_unix_nano);
        let fired = self.fired.entry(key).or_default();
        fired.retain(|at| observed.now_unix_nano - at <= RESTLESS_NANOS);
        fired.push_back(observed.now_unix_nano);
        self.touched.insert(id.to_owned());
        Some(id.to_owned())
    }

    /// It does not hold.
    fn recede(&mut self, id: &str, observed: &Observed<'_>) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        if tracked.incident.state == IncidentState::Pending {
            // A doubt may come and go; it is dropped after half a minute without one.
            tracked.tracking.breach_since_unix_nano = None;
            if observed.at_unix_nano - tracked.tracking.last_breach_unix_nano > 30 * SECOND {
                self.drop_pending(id);
            }
            return;
        }
        let flaps = i64::from(tracked.incident.overlays.flapping);
        let keep = i64::from(observed.keep_firing_seconds) * SECOND;
        let keep = keep.max(flaps * FLAP_NANOS);
        if observed.at_unix_nano - tracked.tracking.last_breach_unix_nano >= keep {
            self.close(id, observed.now_unix_nano, "", "");
        }
    }

    fn drop_pending(&mut self, id: &str) {
        if let Some(tracked) = self.tracked.remove(id) {
            self.open.remove(&tracked.tracking.series);
        }
    }

    fn mark_change(&mut self, key: &str, id: &str, now_unix_nano: i64) {
        let changes = self.changes.entry(key.to_owned()).or_default();
        changes.retain(|at| now_unix_nano - at <= FLAP_NANOS);
        changes.push_back(now_unix_nano);
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        if changes.len() >= FLAP_CHANGES && !tracked.incident.overlays.flapping {
            tracked.incident.overlays.flapping = true;
            tracked.incident.note(now_unix_nano, Event::Flapping, "", "");
        }
    }

    fn close(&mut self, id: &str, now_unix_nano: i64, actor: &str, text: &str) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        tracked.incident.state = IncidentState::Resolved;
        tracked.incident.resolved_unix_nano = Some(now_unix_nano);
        tracked.incident.note(now_unix_nano, Event::Resolved, actor, text);
        let key = tracked.tracking.series.clone();
        self.open.remove(&key);
        self.mark_change(&key, id, now_unix_nano);
        self.touched.insert(id.to_owned());
    }

    /// Adds what was found out about an incident to what its rule said.
    pub fn attach(&mut self, id: &str, found: Evidence) {
        let Some(tracked) = self.tracked.get_mut(id) else { return };
        let evidence = &mut tracked.incident.evidence;
        evidence.probable_causes = found.probable_causes;
        evidence.deploys = found.deploys;
        evidence.sample_logs = found.sample_logs;
        evidence.instances = found.instances;
        evidence.trace_ids = found.trace_ids;
        evidence.link = found.link;
        self.touched.insert(id.to_owned());
    }

    /// What is to be told now.
    pub fn tell(
        &mut self,
        now_unix_nano: i64,
        suppression: &Suppression,
        reminders: &Reminders,
    ) -> Vec<Notification> {
        self.lay_over(now_unix_nano, suppression);
        let mut notifications = Vec::new();
        for tracked in self.tracked.values_mut() {
            let told = tracked.tell(now_unix_nano, suppression, reminders);
            if !told.is_empty() {
                self.touched.insert(tracked.incident.id.clone());
            }
            notifications.extend(told);
        }
        self.tracked.retain(|_, tracked| !tracked.is_forgotten(now_unix_nano));
        self.fired
            .retain(|_, fired| fired.back().is_some_and(|at| now_unix_nano - at <= RESTLESS_NANOS));
        self.changes
            .retain(|_, changes| changes.back().is_some_and(|at| now_unix_nano - at <= FLAP_NANOS));
        notifications
    }

    /// Brings the overlays up to date.
    fn lay_over(&mut self, now_unix_nano: i64, suppression: &Suppression) {
        let all_inhibited = self.inhibited(now_unix_nano, suppression);
        for tracked in self.tracked.values_mut() {
            if !tracked.incident.state.is_active() && !tracked.is_unheard() {
                continue;
            }
            let incident = &mut tracked.incident;
            let before = incident.overlays;
            let silenced = suppression.silence_of(incident, now_unix_nano).is_some();
            let muted = suppression.is_muted(incident, now_unix_nano);
            let inhibited = all_inhibited.contains(&incident.id);
            incident.overlays.silenced = silenced;
            incident.overlays.muted = muted;
            incident.overlays.inhibited = inhibited;
            for (was, is, event) in [
                (before.silenced, silenced, Event::Silenced),
                (before.muted, muted, Event::Muted),
                (before.inhibited, inhibited, Event::Inhibited),
            ] {
                if is != was {
                    let event = if is { event } else { Event::Audible };
                    incident.note(now_unix_nano, event, "", "");
                    self.touched.insert(incident.id.clone());
                }
            }
        }
    }

    /// Incidents that others explain. Only those of a service, or of the system, explain each other,
    /// but for what was set.
    fn inhibited(&self, now_unix_nano: i64, suppression: &Suppression) -> HashSet<String> {
        // What follows from something may go on for a while after it.
        let is_source = |incident: &&Incident| {
            let resolved = incident.resolved_unix_nano;
            incident.state.is_active()
                || resolved.is_some_and(|at| now_unix_nano - at <= AFTERMATH_NANOS)
        };
        let mut by_service: HashMap<&str, Vec<&Incident>> = HashMap::new();
        for source in self.incidents().filter(is_source) {
            by_service.entry(&source.service).or_default().push(source);
        }
        let is_inhibited = |target: &&Incident| {
            let near = |service: &str| by_service.get(service).into_iter().flatten();
            let explains = |source: &&Incident| suppression.inhibits(source, target);
            near(&target.service).chain(near("")).any(explains)
                || (!suppression.inhibitions.is_empty()
                    && by_service.values().flatten().any(explains))
        };
        self.incidents().filter(is_inhibited).map(|incident| incident.id.clone()).collect()
    }

    /// Somebody sees to it. Whether there is such an incident that fires.
    pub fn acknowledge(&mut self, id: &str, actor: &str, now_unix_nano: i64) -> bool {
        self.change(id, |tracked| {
            tracked.incident.state = IncidentState::Acknowledged;
            tracked.incident.acknowledged_by = actor.to_owned();
            tracked.tracking.is_changed = true;
            tracked.incident.note(now_unix_nano, Event::Acknowledged, actor, "");
        })
    }

    /// Nobody sees to it any longer.
    pub fn unacknowledge(&mut self, id: &str, actor: &str, now_unix_nano: i64) -> bool {
        self.change(id, |tracked| {
            tracked.incident.state = IncidentState::Firing;
            tracked.incident.acknowledged_by.clear();
            tracked.tracking.notified_unix_nano = now_unix_nano;
            tracked.incident.note(now_unix_nano, Event::Unacknowledged, actor, "");
        })
    }

    /// Somebody wants to hear of it later.
    pub fn snooze(
        &mut self,
        id: &str,
        actor: &str,
        until_unix_nano: i64,
        now_unix_nano: i64,
    ) -> bool {
        self.change(id, |tracked| {
            tracked.incident.overlays.snoozed_until_unix_nano = Some(until_unix_nano);
            tracked.incident.note(now_unix_nano, Event::Snoozed, actor, "");
        })
    }

    /// Somebody says that it is over. If it is not, a new incident begins.
    pub fn resolve(&mut self, id: &str, actor: &str, text: &str, now_unix_nano: i64) -> bool {
        let is_active = self.get(id).is_some_and(|incident| incident.state.is_active());
        if is_active {
            self.close(id, now_unix_nano, actor, text);
        }
        is_active
    }

    /// Nobody asks any longer whether it holds.
    pub fn end(&mut self, id: &str, text: &str, now_unix_nano: i64) {
        match self.get(id).map(|incident| incident.state) {
            Some(IncidentState::Pending) => self.drop_pending(id),
            Some(state) if state.is_active() => self.close(id, now_unix_nano, "", text),
            _ => {}
        }
    }

    /// A person wrote something.
    pub fn note(&mut self, id: &str, actor: &str, text: &str, now_unix_nano: i64) -> bool {
        self.change(id, |tracked| tracked.incident.note(now_unix_nano, Event::Note, actor, text))
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Tracked)) -> bool {
        let Some(tracked) = self.tracked.get_mut(id) else { return false };
        if !tracked.incident.state.is_active() {
            return false;
        }
        change(tracked);
        self.touched.insert(id.to_owned());
        true
    }
}

impl Tracked {
    /// Whether it is over and told, and so long ago that nothing more comes of it.
    fn is_forgotten(&self, now_unix_nano: i64) -> bool {
        let resolved = self.incident.resolved_unix_nano;
        self.tracking.is_closed && resolved.is_some_and(|at| now_unix_nano - at >= RESOLVED_NANOS)
    }

    /// Keeps the evidence and the severity up to date while it fires; whether that changed anything.
    fn worsen(&mut self, now_unix_nano: i64, breach: &Breach) -> bool {
        if breach.is_weak {
            return false;
        }
        let incident = &mut self.incident;
        let extent = |evidence: &Evidence| {
            evidence.measured.first().map_or(0.0, |m| (m.now - m.normal.unwrap_or(0.0)).abs())
        };
        // The worst is what people want to know.
        let is_further = extent(&breach.evidence) > extent(&incident.evidence);
        if is_further {
            incident.evidence.summary.clone_from(&breach.evidence.summary);
            incident.evidence.measured.clone_from(&breach.evidence.measured);
        }
        let is_worse = breach.severity > incident.severity;
        if is_worse {
            incident.severity = breach.severity;
            incident.note(now_unix_nano, Event::Escalated, "", &breach.evidence.summary);
        }
        is_further || is_worse
    }

    fn notification(
        &mut self,
        kind: NotificationKind,
        now_unix_nano: i64,
        text: &str,
    ) -> Notification {
        self.tracking.sequence += 1;
        self.tracking.notified_unix_nano = now_unix_nano;
        self.tracking.notified_severity = self.incident.severity;
        self.tracking.is_changed = false;
        let mut notification =
            Notification::new(kind, self.tracking.sequence, now_unix_nano, &self.incident);
        notification.text = text.to_owned();
        notification
    }

    /// Whether it fired and was over within one evaluation, because its logs came late, so that there
    /// was no time yet to tell of it.
    fn is_unheard(&self) -> bool {
        let Incident { firing_unix_nano, resolved_unix_nano, .. } = self.incident;
        let is_untold = self.tracking.sequence == 0 && !self.tracking.is_closed;
        is_untold && resolved_unix_nano.is_some() && firing_unix_nano == resolved_unix_nano
    }

    fn tell(
        &mut self,
        now: i64,
        suppression: &Suppression,
        reminders: &Reminders,
    ) -> Vec<Notification> {
        let is_told = self.tracking.sequence > 0;
        match self.incident.state {
            IncidentState::Pending => Vec::new(),
            IncidentState::Resolved if self.tracking.is_closed => Vec::new(),
            IncidentState::Resolved => {
                let is_unheard = self.is_unheard() && !self.is_quiet(now, suppression, false);
                self.tracking.is_closed = true;
                let late = "its logs came late: it was over before it could be told";
                let opened =
                    is_unheard.then(|| self.notification(NotificationKind::Opened, now, late));
                let text = if is_unheard { late } else { "" };
                let is_told = is_told || is_unheard;
                let resolved =
                    is_told.then(|| self.notification(NotificationKind::Resolved, now, text));
                opened.into_iter().chain(resolved).collect()
            }
            IncidentState::Firing | IncidentState::Acknowledged => {
                let is_worse = self.incident.severity > self.tracking.notified_severity;
                if self.is_quiet(now, suppression, is_worse) {
                    return Vec::new();
                }
                if !is_told {
                    return vec![self.notification(NotificationKind::Opened, now, "")];
                }
                self.tell_on(now, reminders, is_worse).into_iter().collect()
            }
        }
    }

    /// What became critical is heard through a silence, unless the silence says otherwise.
    fn is_quiet(&self, now: i64, suppression: &Suppression, is_worse: bool) -> bool {
        let overlays = &self.incident.overlays;
        let is_hidden = || {
            suppression.silence_of(&self.incident, now).is_none_or(|silence| silence.hides_critical)
        };
        let is_critical_now = is_worse && self.incident.severity == Severity::Critical;
        if overlays.silenced && is_critical_now && !is_hidden() {
            return false;
        }
        overlays.is_quiet(now)
    }

    /// Of what was told already.
    fn tell_on(&mut self, now: i64, reminders: &Reminders, is_worse: bool) -> Option<Notification> {
        if is_worse {
            return Some(self.notification(NotificationKind::Escalated, now, "it got worse"));
        }
        let is_acknowledged = self.incident.state == IncidentState::Acknowledged;
        if self.tracking.is_changed {
            return Some(self.notification(NotificationKind::Updated, now, ""));
        }
        if self.incident.overlays.snoozed_until_unix_nano.take().is_some() {
            self.incident.note(now, Event::Audible, "", "");
            return Some(self.notification(
                NotificationKind::Reminder,
                now,
                "it was snoozed until now",
            ));
        }
        let since = now - self.tracking.notified_unix_nano;
        let seconds = |seconds: u32| i64::from(seconds) * SECOND;
        if self.incident.overlays.flapping {
            let is_due = since >= seconds(reminders.flap_seconds);
            return is_due
                .then(|| self.notification(NotificationKind::Digest, now, "it comes and goes"));
        }
        let may_escalate = !is_acknowledged
            && self.incident.severity == Severity::Critical
            && self.incident.escalation_level < reminders.escalations_max;
        if may_escalate && since >= seconds(reminders.escalate_seconds) {
            self.incident.escalation_level += 1;
            let is_last = self.incident.escalation_level == reminders.escalations_max;
            let last = if is_last { "; this is the last level" } else { "" };
            let minutes = reminders.escalate_seconds / 60;
            let text = format!("not acknowledged for {minutes} min{last}");
            self.incident.note(now, Event::Escalated, "", &text);
            return Some(self.notification(NotificationKind::Escalated, now, &text));
        }
        let doubled = if is_acknowledged { self.tracking.reminders.min(10) } else { 0 };
        let wait = seconds(reminders.repeat_seconds) << doubled;
        (since >= wait.min(seconds(reminders.repeat_seconds_max))).then(|| {
            self.tracking.reminders += 1;
            self.notification(NotificationKind::Reminder, now, "it still goes on")
        })
    }
}

/// Made of what it is told apart by and the event time at which it began, so that it is the same after
/// a restart, and another for what comes later however late both are judged.
fn incident_id(tenant: &str, key: &str, at_unix_nano: i64) -> String {
    let hash = xxhash_rust::xxh3::xxh3_64(format!("{tenant}\u{1f}{key}").as_bytes());
    format!("{:012x}{:08x}", at_unix_nano / 1_000_000, (hash >> 32) as u32)
}

#[cfg(test)]
mod tests;
