//! What a channel's worker does next: a function of what waits, the channel's state and the moment.
//!
//! What waits is put into units: a message that may have arrived stays as it was; everything else
//! goes by incident, in order, and what happened to one incident meanwhile is told at once ("was
//! firing 10:02 to 10:31"). More units than people can read become a digest. The worst goes first,
//! then the oldest. A unit whose time has not come holds up its incident, and no other.

use std::{collections::BTreeMap, time::Duration};

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::{BreakerState, breaker::Pass},
    delivery::Delivery,
    incident::IncidentState,
    notification::{Notification, NotificationKind},
    render::text::{span, time_of_day},
    rule::Severity,
};
use sha2::{Digest as _, Sha256};

use crate::{
    channel::{ChannelLimits, Form},
    notify::outbox::{GIVE_UP_AFTER, Queue},
};

/// Incidents in a digest: more than anybody reads, and few enough for every channel's size of a
/// message.
pub const DIGEST_MAX: usize = 100;
/// How long a channel may be down before what is critical goes to another: longer than a
/// destination takes to restart, and short enough for somebody who is to be woken.
pub const FALLBACK_AFTER: Duration = Duration::from_secs(120);

/// Bytes of the hash in a digest's key: two digests have the same once in 2^64.
const KEY_HASH_BYTES: usize = 16;

/// What a channel's worker does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Nothing waits.
    Idle,
    /// Something waits, and nothing may be sent before this moment.
    Wait(Timestamp),
    /// Give these to another channel as well.
    HandOver {
        /// The deliveries' ids.
        ids: Vec<i64>,
        /// The other channel's name.
        to: String,
        /// Why, for people.
        reason: String,
    },
    /// Give these up, by their ids: they have waited too long.
    GiveUp(Vec<i64>),
    /// Send this message.
    Send(Box<PlannedMessage>),
}

/// A message that is to be sent now.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedMessage {
    /// The ids of the deliveries in it.
    pub ids: Vec<i64>,
    /// The message's key.
    pub key: String,
    /// What it is about; of several incidents a digest.
    pub notification: Notification,
    /// The form to send it in.
    pub form: Form,
    /// What the channel returned for the incident's first message; none for the first.
    pub thread: Option<String>,
    /// How often its first delivery was begun before.
    pub attempts: u32,
    /// Whether it may have arrived already: then it stays as it is, whatever comes of it now.
    pub may_have_arrived: bool,
}

/// Deliveries that go together.
struct Unit<'a> {
    deliveries: Vec<&'a Delivery>,
    /// Set if it may have arrived.
    key: Option<&'a str>,
}

/// Decides what to do next with what waits.
pub fn plan(queue: &Queue, limits: ChannelLimits, now: Timestamp) -> Plan {
    let give_up_before = now - GIVE_UP_AFTER;
    let stale = |delivery: &&Delivery| delivery.created_at < give_up_before;
    let given_up: Vec<i64> = queue.deliveries.iter().filter(stale).map(|d| d.id).collect();
    if !given_up.is_empty() {
        return Plan::GiveUp(given_up);
    }
    // Before the breaker is asked: another channel can be told although this one cannot.
    if let Some(handed_over) = hand_over(queue, now) {
        return handed_over;
    }
    let units = units(&queue.deliveries);
    if units.is_empty() {
        return Plan::Idle;
    }
    // Whichever asks for more time decides: the breaker, the rate limit, or the deliveries
    // themselves.
    let pass = queue.state.breaker.pass(now);
    let mut not_before = queue.state.pace.ready_at(limits.rate, now);
    if let Pass::NotBefore(until) = pass {
        not_before = not_before.max(until);
    }
    let mut ready: Vec<&Unit<'_>> = units.iter().filter(|u| u.due() <= now).collect();
    if ready.is_empty() {
        let soonest = units.iter().map(Unit::due).min().unwrap_or(now);
        not_before = not_before.max(soonest);
    }
    if not_before > now {
        let until = look_again(queue, now).map_or(not_before, |at| at.min(not_before));
        return Plan::Wait(until);
    }
    ready.sort_by_key(|unit| unit.rank());
    match pass {
        Pass::Probe => Plan::Send(Box::new(probe(&ready).planned())),
        _ => Plan::Send(Box::new(next(&ready, limits))),
    }
}

/// While a channel is down, the moment at which what is critical goes to another one.
fn look_again(queue: &Queue, now: Timestamp) -> Option<Timestamp> {
    let at = queue.state.breaker.down_since? + FALLBACK_AFTER;
    (at > now).then_some(at)
}

/// A wrongly set channel hands over everything at once, one that is down what is critical, and both
/// what follows something that was handed over before.
fn hand_over(queue: &Queue, now: Timestamp) -> Option<Plan> {
    let to = queue.fallbacks.first()?;
    let breaker = &queue.state.breaker;
    let is_down = breaker.is_down(FALLBACK_AFTER, now);
    let is_wrong = matches!(breaker.state, BreakerState::Misconfigured { .. });
    let goes = |delivery: &&Delivery| {
        let is_critical = delivery.notification.incident.severity == Severity::Critical;
        let is_due = is_wrong || (is_down && is_critical) || delivery.follows_hand_over;
        is_due && !delivery.is_handed_over
    };
    let ids: Vec<i64> = queue.deliveries.iter().filter(goes).map(|d| d.id).collect();
    if ids.is_empty() {
        return None;
    }
    let since = breaker.down_since.unwrap_or(now);
    let reason = match (is_wrong, is_down) {
        (true, _) => format!("its own channel is set wrongly: {}", queue.state.last_error),
        (_, true) => format!(
            "its own channel has been down since {} UTC: {}",
            time_of_day(since),
            queue.state.last_error
        ),
        _ => "its beginning was told here".to_owned(),
    };
    Some(Plan::HandOver { ids, to: to.clone(), reason })
}

/// Messages that may have arrived, and the other deliveries by incident; an incident that is in
/// such a message waits until its outcome is known.
fn units(deliveries: &[Delivery]) -> Vec<Unit<'_>> {
    let mut begun: BTreeMap<&str, Unit<'_>> = BTreeMap::new();
    for delivery in deliveries {
        if let Some(key) = delivery.message_key.as_deref() {
            let unit = begun.entry(key).or_insert(Unit { deliveries: Vec::new(), key: Some(key) });
            unit.deliveries.push(delivery);
        }
    }
    // What comes next of an incident must not overtake what may still have to be repeated.
    let held: Vec<&str> =
        begun.values().flat_map(|unit| &unit.deliveries).map(|d| incident_of(d)).collect();
    let mut fresh: BTreeMap<&str, Unit<'_>> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.message_key.is_none()) {
        let incident = incident_of(delivery);
        if !held.contains(&incident) {
            let unit = fresh.entry(incident).or_insert(Unit { deliveries: Vec::new(), key: None });
            unit.deliveries.push(delivery);
        }
    }
    begun.into_values().chain(fresh.into_values()).collect()
}

fn incident_of(delivery: &Delivery) -> &str {
    &delivery.notification.incident.id
}

/// The oldest that is critical, else the newest.
fn probe<'a, 'b>(ready: &[&'a Unit<'b>]) -> &'a Unit<'b> {
    // A probe may be lost once more. What is critical is worth it, and otherwise what people have
    // not heard of for the shortest time.
    let critical = ready.iter().find(|unit| unit.severity() == Severity::Critical);
    let newest = ready.iter().max_by_key(|unit| unit.created());
    critical.or(newest).expect("something is ready")
}

/// The first in rank, or a digest of all that are ready and have certainly not arrived.
fn next(ready: &[&Unit<'_>], limits: ChannelLimits) -> PlannedMessage {
    // What may have arrived must be repeated as it was, and what was refused goes alone in its
    // plain form.
    let fresh: Vec<&Unit<'_>> =
        ready.iter().copied().filter(|unit| unit.key.is_none() && !unit.is_plain()).collect();
    let first = ready.first().expect("something is ready");
    match limits.digest_over {
        Some(over) if fresh.len() > over && first.key.is_none() => {
            digest(&fresh[..fresh.len().min(DIGEST_MAX)])
        }
        _ => first.planned(),
    }
}

impl Unit<'_> {
    fn due(&self) -> Timestamp {
        self.deliveries.iter().map(|d| d.not_before).max().unwrap_or(Timestamp::MAX)
    }

    fn created(&self) -> Timestamp {
        self.deliveries.first().map_or(Timestamp::EPOCH, |delivery| delivery.created_at)
    }

    fn severity(&self) -> Severity {
        let all = self.deliveries.iter().map(|delivery| delivery.notification.incident.severity);
        all.max().unwrap_or_default()
    }

    fn is_plain(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.is_plain)
    }

    /// The worst first, then the oldest.
    fn rank(&self) -> (std::cmp::Reverse<Severity>, Timestamp) {
        (std::cmp::Reverse(self.severity()), self.created())
    }

    fn planned(&self) -> PlannedMessage {
        let mut by_incident: BTreeMap<&str, Vec<&Notification>> = BTreeMap::new();
        for delivery in &self.deliveries {
            by_incident.entry(incident_of(delivery)).or_default().push(&delivery.notification);
        }
        let merged: Vec<Notification> =
            by_incident.values().map(|notifications| merge(notifications)).collect();
        // One incident is told as itself; several in one message can only have been a digest.
        let mut planned = match <[Notification; 1]>::try_from(merged) {
            Ok([notification]) => self.planned_of(notification.key.clone(), notification),
            Err(many) => self.planned_of(String::new(), digest_of(many)),
        };
        if let Some(key) = self.key {
            key.clone_into(&mut planned.key);
            planned.may_have_arrived = true;
        }
        planned
    }

    fn planned_of(&self, key: String, notification: Notification) -> PlannedMessage {
        PlannedMessage {
            ids: self.deliveries.iter().map(|delivery| delivery.id).collect(),
            key,
            notification,
            form: if self.is_plain() { Form::Plain } else { Form::Full },
            thread: self.deliveries.iter().find_map(|delivery| delivery.thread.clone()),
            attempts: self.deliveries.iter().map(|delivery| delivery.attempts).max().unwrap_or(0),
            may_have_arrived: false,
        }
    }
}

/// What happened to one incident, as one notification: the newest, which also says what it stands
/// for.
fn merge(notifications: &[&Notification]) -> Notification {
    let mut ordered = notifications.to_vec();
    ordered.sort_by_key(|notification| notification.sequence);
    let last = ordered.last().expect("a unit has a delivery");
    let mut merged = (*last).clone();
    if ordered.len() == 1 {
        return merged;
    }
    let has = |kind| ordered.iter().any(|notification| notification.kind == kind);
    // An incident that began and ended while the channel was down is one message; one that goes on
    // is told as loudly as the loudest of what is put together.
    let is_over = merged.incident.state == IncidentState::Resolved;
    if is_over && has(NotificationKind::Opened) && merged.text.is_empty() {
        merged.text = was_firing(&merged);
    } else if !is_over {
        let loudest =
            [NotificationKind::Opened, NotificationKind::Escalated, NotificationKind::Reminder];
        merged.kind = loudest.into_iter().find(|kind| has(*kind)).unwrap_or(merged.kind);
    }
    merged
}

fn was_firing(notification: &Notification) -> String {
    let incident = &notification.incident;
    let began = incident.firing_at.unwrap_or(incident.pending_at);
    let ended = incident.resolved_at.unwrap_or(notification.at);
    let (from, to) = (time_of_day(began), time_of_day(ended));
    let lasted = span(ended.since(began));
    format!("was firing {from} to {to} UTC ({lasted}), while this channel could not be told")
}

fn digest(units: &[&Unit<'_>]) -> PlannedMessage {
    let deliveries: Vec<&Delivery> =
        units.iter().flat_map(|unit| &unit.deliveries).copied().collect();
    let notifications = units.iter().map(|unit| {
        let notifications: Vec<&Notification> =
            unit.deliveries.iter().map(|d| &d.notification).collect();
        merge(&notifications)
    });
    let notification = digest_of(notifications.collect());
    PlannedMessage {
        ids: deliveries.iter().map(|delivery| delivery.id).collect(),
        key: notification.key.clone(),
        notification,
        form: Form::Full,
        thread: None,
        attempts: deliveries.iter().map(|delivery| delivery.attempts).max().unwrap_or(0),
        may_have_arrived: false,
    }
}

/// One notification of many, the worst first. Its key is made of theirs.
fn digest_of(mut notifications: Vec<Notification>) -> Notification {
    notifications.sort_by_key(|notification| {
        let is_over = notification.incident.state == IncidentState::Resolved;
        (is_over, std::cmp::Reverse(notification.incident.severity), notification.at)
    });
    // The same notifications make the same key, so that a repeat of the digest is told as one.
    let mut hash = Sha256::new();
    for notification in &notifications {
        hash.update(notification.key.as_bytes());
        // Ends each key, or two others of the same letters would make the same hash.
        hash.update([0]);
    }
    let at = notifications.iter().map(|notification| notification.at).max().unwrap_or_default();
    let count = notifications.iter().map(|notification| notification.count.max(1)).sum();
    let mut incidents = notifications
        .into_iter()
        .flat_map(|notification| std::iter::once(notification.incident).chain(notification.others));
    let incident = incidents.next().expect("a digest has a notification");
    let mut digest = Notification::new(NotificationKind::Digest, 0, at, &incident);
    digest.key = format!("digest-{}", hex::encode(&hash.finalize()[..KEY_HASH_BYTES]));
    digest.others = incidents.collect();
    digest.count = count;
    digest
}
