//! The second stage: whether an incident is to be told now. It opens once and is resolved once; in
//! between it is told again when it gets worse, when nobody acknowledges it, and as a reminder.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::{Event, IncidentState},
    notification::{Notification, NotificationKind},
    policy::Reminders,
    rule::Severity,
    suppression::Suppression,
};

use super::policy::NotificationPolicy;
use crate::incident::{Incidents, Tracked};

/// Reminders of an acknowledged incident come half as often each time, so many times: far beyond
/// the longest pause that a policy may set.
const DOUBLINGS_MAX: u32 = 10;
const MINUTE_SECONDS: u32 = 60;

/// The notifications that are due, by incident; they count as told from now on.
pub fn due(
    incidents: &mut Incidents,
    policy: &NotificationPolicy,
    now: Timestamp,
) -> Vec<Notification> {
    let mut due = Vec::new();
    for tracked in incidents.tracked_mut() {
        due.extend(due_of(tracked, policy, now));
    }
    due.iter().for_each(|notification| incidents.mark_changed(&notification.incident.id));
    due
}

fn due_of(tracked: &mut Tracked, policy: &NotificationPolicy, now: Timestamp) -> Vec<Notification> {
    match tracked.incident.state {
        IncidentState::Pending => Vec::new(),
        IncidentState::Resolved if tracked.tracking.is_closed => Vec::new(),
        IncidentState::Resolved => at_end(tracked, &policy.suppression, now),
        IncidentState::Firing | IncidentState::Acknowledged => {
            let is_worse = tracked.incident.severity > tracked.tracking.notified_severity;
            if is_suppressed(tracked, &policy.suppression, is_worse, now) {
                return Vec::new();
            }
            // It may have fired long ago and have been suppressed until now.
            if tracked.tracking.sequence == 0 {
                return vec![notification(tracked, NotificationKind::Opened, "", now)];
            }
            follow_up(tracked, &policy.reminders, is_worse, now).into_iter().collect()
        }
    }
}

/// Of an incident that is over. One that was never told is told with its end, if its logs came so
/// late that there was no time before.
fn at_end(tracked: &mut Tracked, suppression: &Suppression, now: Timestamp) -> Vec<Notification> {
    let is_untold = tracked.is_untold() && !is_suppressed(tracked, suppression, false, now);
    let is_told = tracked.tracking.sequence > 0;
    // Whether or not it is told: a silence that ends later must not have it told then.
    tracked.tracking.is_closed = true;
    if is_untold {
        let late = "its logs came late: it was over before it could be told";
        return [NotificationKind::Opened, NotificationKind::Resolved]
            .map(|kind| notification(tracked, kind, late, now))
            .into();
    }
    if is_told {
        return vec![notification(tracked, NotificationKind::Resolved, "", now)];
    }
    Vec::new()
}

/// Of an incident that was told already and goes on.
fn follow_up(
    tracked: &mut Tracked,
    reminders: &Reminders,
    is_worse: bool,
    now: Timestamp,
) -> Option<Notification> {
    // In the order of what people must know first; of each evaluation they are told one thing.
    if is_worse {
        return Some(notification(tracked, NotificationKind::Escalated, "it got worse", now));
    }
    if tracked.tracking.is_changed {
        return Some(notification(tracked, NotificationKind::Updated, "", now));
    }
    if tracked.incident.overlays.snoozed_until.take().is_some() {
        tracked.incident.note(now, Event::Audible, "", "");
        let text = "it was snoozed until now";
        return Some(notification(tracked, NotificationKind::Reminder, text, now));
    }
    let since = now.since(tracked.tracking.notified_at);
    // What comes and goes is neither escalated nor repeated each time: people would stop to look.
    if tracked.incident.overlays.flapping {
        let is_due = since >= seconds(reminders.flap_seconds);
        let digest = NotificationKind::Digest;
        return is_due.then(|| notification(tracked, digest, "it comes and goes", now));
    }
    if may_escalate(tracked, reminders) && since >= seconds(reminders.escalate_seconds) {
        return Some(escalation(tracked, reminders, now));
    }
    let is_due = since >= reminder_pause(tracked, reminders);
    is_due.then(|| {
        tracked.tracking.reminders += 1;
        notification(tracked, NotificationKind::Reminder, "it still goes on", now)
    })
}

/// Whether somebody else is to be told, as nobody acknowledges what is critical.
fn may_escalate(tracked: &Tracked, reminders: &Reminders) -> bool {
    tracked.incident.state != IncidentState::Acknowledged
        && tracked.incident.severity == Severity::Critical
        && tracked.incident.escalation_level < reminders.escalations_max
}

fn escalation(tracked: &mut Tracked, reminders: &Reminders, now: Timestamp) -> Notification {
    let incident = &mut tracked.incident;
    incident.escalation_level += 1;
    let is_last = incident.escalation_level == reminders.escalations_max;
    let last = if is_last { "; this is the last level" } else { "" };
    let minutes = reminders.escalate_seconds / MINUTE_SECONDS;
    let text = format!("not acknowledged for {minutes} min{last}");
    incident.note(now, Event::Escalated, "", &text);
    notification(tracked, NotificationKind::Escalated, &text, now)
}

/// Who has acknowledged knows already: each further reminder waits twice as long.
fn reminder_pause(tracked: &Tracked, reminders: &Reminders) -> Duration {
    let is_acknowledged = tracked.incident.state == IncidentState::Acknowledged;
    let doublings = if is_acknowledged { tracked.tracking.reminders.min(DOUBLINGS_MAX) } else { 0 };
    let pause = seconds(reminders.repeat_seconds) * (1 << doublings);
    pause.min(seconds(reminders.repeat_seconds_max))
}

/// What became critical is heard through a silence, unless the silence says otherwise.
fn is_suppressed(
    tracked: &Tracked,
    suppression: &Suppression,
    is_worse: bool,
    now: Timestamp,
) -> bool {
    let incident = &tracked.incident;
    let hides_critical =
        || suppression.silence_of(incident, now).is_none_or(|silence| silence.hides_critical);
    let is_critical_now = is_worse && incident.severity == Severity::Critical;
    if incident.overlays.silenced && is_critical_now && !hides_critical() {
        return false;
    }
    incident.overlays.is_suppressed(now)
}

/// The next notification of an incident, which counts as told from now on.
fn notification(
    tracked: &mut Tracked,
    kind: NotificationKind,
    text: &str,
    now: Timestamp,
) -> Notification {
    // Counted with the notification itself, in one transaction: a repeat after a fault has the same
    // key.
    let tracking = &mut tracked.tracking;
    tracking.sequence += 1;
    tracking.notified_at = now;
    tracking.notified_severity = tracked.incident.severity;
    tracking.is_changed = false;
    let mut notification = Notification::new(kind, tracking.sequence, now, &tracked.incident);
    notification.text = text.to_owned();
    notification
}

const fn seconds(count: u32) -> Duration {
    Duration::from_secs(count as u64)
}
