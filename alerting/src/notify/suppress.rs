//! The first stage: who does not want to know. Silences, mute times, and incidents that others
//! explain mark an incident as suppressed; that it is snoozed or flaps it knows by itself.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    incident::{Event, Incident},
    suppression::Suppression,
};

use crate::incident::Incidents;

/// How long an incident that is over still explains others: what follows from something may go on
/// for a while after it.
const EXPLAINS_FOR: Duration = Duration::from_secs(600);

/// Brings every incident's overlays up to date, and notes in its timeline what has changed of them.
pub fn suppress(incidents: &mut Incidents, suppression: &Suppression, now: Timestamp) {
    // By the incidents as they were, before any is changed: what explains what must not depend on
    // the order.
    let all_inhibited = inhibited(incidents, suppression, now);
    let mut changed = Vec::new();
    for tracked in incidents.tracked_mut() {
        // What is over keeps the marks that it had when its end came; what came late has none yet.
        if !tracked.incident.state.is_active() && !tracked.is_untold() {
            continue;
        }
        let incident = &mut tracked.incident;
        // What was before is kept: only a change belongs into the timeline.
        let before = incident.overlays;
        let silenced = suppression.silence_of(incident, now).is_some();
        let muted = suppression.is_muted(incident, now);
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
                incident.note(now, event, "", "");
                changed.push(incident.id.clone());
            }
        }
    }
    changed.iter().for_each(|id| incidents.mark_changed(id));
}

/// The ids of incidents that others explain. Only those of one service, or of the system, explain
/// each other, but for what was set.
fn inhibited(incidents: &Incidents, suppression: &Suppression, now: Timestamp) -> HashSet<String> {
    let is_source = |incident: &&Incident| {
        let resolved = incident.resolved_at;
        incident.state.is_active() || resolved.is_some_and(|at| now.since(at) <= EXPLAINS_FOR)
    };
    // By service, or each incident would be compared with each in a storm of thousands.
    let mut by_service: HashMap<&str, Vec<&Incident>> = HashMap::new();
    for source in incidents.iter().filter(is_source) {
        by_service.entry(&source.service).or_default().push(source);
    }
    let is_inhibited = |target: &&Incident| {
        let near = |service: &str| by_service.get(service).into_iter().flatten();
        let explains = |source: &&Incident| suppression.inhibits(source, target);
        near(&target.service).chain(near("")).any(explains)
            || (!suppression.inhibitions.is_empty() && by_service.values().flatten().any(explains))
    };
    incidents.iter().filter(is_inhibited).map(|incident| incident.id.clone()).collect()
}
