//! An incident for whoever is woken by it: what, since when, how much, why perhaps, what shows it,
//! who was told, and what to type next.

use std::{io, time::Duration};

use logweir_core::{json::level_name, timestamp::Timestamp};
use logweir_incident::render::text::{number, span};
use logweir_proto::v1;

use super::labels::{began, delivery_state, quiet, severity, state};
use crate::output::{Output, Tone, count, escape, text};
use crate::response_times::shown;

/// How much around an incident is searched.
const AROUND: Duration = Duration::from_secs(60);

/// Writes it.
pub(super) fn write(
    output: &mut Output,
    incident: &v1::Incident,
    now: Timestamp,
) -> io::Result<()> {
    // In the order in which somebody who was woken asks: what, how much, why, since which deploy,
    // what shows it, what was done, who knows; and at the end, where the cursor is, what to type.
    head(output, incident, now)?;
    measured(output, incident)?;
    causes(output, incident)?;
    deploys(output, incident)?;
    sample_logs(output, incident)?;
    timeline(output, incident)?;
    deliveries(output, incident)?;
    section(output, "type next")?;
    for command in next(incident) {
        output.line(&format!("  {}", escape(&command)))?;
    }
    Ok(())
}

fn section(output: &mut Output, name: &str) -> io::Result<()> {
    output.line("")?;
    let title = output.paint(&name.to_uppercase(), Tone::Dim);
    output.line(&title)
}

/// A line with a name before it, if it says something.
fn named(output: &mut Output, name: &str, value: &str) -> io::Result<()> {
    if value.is_empty() {
        return Ok(());
    }
    let name = output.paint(&format!("{name:<10}"), Tone::Dim);
    output.line(&format!("{name}{}", escape(value)))
}

fn head(output: &mut Output, incident: &v1::Incident, now: Timestamp) -> io::Result<()> {
    let (severity, loudness) = severity(incident);
    let (state, tone) = state(incident);
    let severity = output.paint(&severity.to_uppercase(), loudness);
    let state = output.paint(state, tone);
    output.line(&format!("{severity} {state}: {}", escape(&incident.summary)))?;
    let began = began(incident);
    let since = match incident.resolved_unix_nano {
        0 => format!("{} UTC, for {}", began.shown(), span(now.since(began))),
        over => {
            let over = Timestamp::from_unix_nanos(over);
            let lasted = span(over.since(began));
            format!("{} to {} UTC, for {lasted}", began.shown(), over.shown())
        }
    };
    named(output, "since", &since)?;
    let service = if incident.service.is_empty() { "(logweir itself)" } else { &incident.service };
    named(output, "service", service)?;
    named(output, "rule", &format!("{} ({})", incident.rule, incident.kind))?;
    named(output, "incident", &incident.incident_id)?;
    named(output, "seen to", &seen_to(incident))?;
    named(output, "quiet", &quiet(incident).join(", "))?;
    let until = incident.overlays.unwrap_or_default().snoozed_until_unix_nano;
    if until != 0 {
        named(output, "snoozed", &format!("until {} UTC", shown(until)))?;
    }
    let mut labels: Vec<String> = incident
        .labels
        .iter()
        .filter(|(label, _)| !matches!(label.as_str(), "rule" | "service"))
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    // The map of a message has no order, and two looks must not differ.
    labels.sort();
    named(output, "labels", &labels.join(" "))?;
    named(output, "instances", &incident.instances.join(", "))?;
    named(output, "runbook", &incident.runbook)?;
    named(output, "link", &incident.link)
}

fn seen_to(incident: &v1::Incident) -> String {
    match (incident.state(), incident.acknowledged_by.as_str()) {
        (v1::IncidentState::Firing, "") if incident.escalation_level > 0 => {
            format!("by nobody, escalated {} times", incident.escalation_level)
        }
        (v1::IncidentState::Firing, "") => "by nobody".to_owned(),
        (_, "") => String::new(),
        (_, by) => format!("by token {by}"),
    }
}

fn measured(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    if incident.measured.is_empty() {
        return Ok(());
    }
    section(output, "now and normally")?;
    let shown = |value: Option<f64>| value.map_or("-".to_owned(), number);
    let row = |measured: &v1::Measured| {
        // Where nothing is normal, such as errors of a healthy service, no factor says how much.
        let times = measured.normal.filter(|normal| *normal > 0.0);
        let times =
            times.map_or("-".to_owned(), |normal| format!("{}x", number(measured.now / normal)));
        vec![
            text(&measured.name).tone(Tone::Name),
            text(&number(measured.now)).tone(Tone::Bad),
            text(&shown(measured.normal)),
            text(&times),
            text(&shown(measured.threshold)),
            count(measured.support),
        ]
    };
    let header = ["measured", "now", "normally", "times", "line", "of logs"];
    output.table(&header, incident.measured.iter().map(row).collect())
}

fn causes(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    if incident.probable_causes.is_empty() {
        return Ok(());
    }
    section(output, "probable causes")?;
    let row = |cause: &v1::ProbableCause| {
        let before = match cause.is_new {
            true => "never".to_owned(),
            false => number(cause.count_before),
        };
        vec![
            text(&format!("{:.0} %", cause.share * 100.0)),
            count(cause.count_now),
            text(&before).tone(if cause.is_new { Tone::Warning } else { Tone::Plain }),
            text(level_name(cause.level())).tone(Tone::of_level(cause.level())),
            text(&cause.template_id).tone(Tone::Dim),
            text(&cause.pattern),
        ]
    };
    let header = ["share", "now", "normally", "level", "template", "pattern"];
    output.table(&header, incident.probable_causes.iter().map(row).collect())
}

fn deploys(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    if incident.deploys.is_empty() {
        return Ok(());
    }
    section(output, "went live before")?;
    let began = began(incident);
    let row = |deploy: &v1::Deploy| {
        let time = Timestamp::from_unix_nanos(deploy.time_unix_nano);
        let when = match time <= began {
            true => format!("{} before", span(began.since(time))),
            false => "after".to_owned(),
        };
        vec![
            text(&time.shown()).tone(Tone::Dim),
            text(&when),
            text(&deploy.service).tone(Tone::Name),
            text(&deploy.version),
        ]
    };
    let rows = incident.deploys.iter().map(row).collect();
    output.table(&["time", "when", "service", "version"], rows)
}

fn sample_logs(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    if incident.sample_logs.is_empty() {
        return Ok(());
    }
    section(output, "logs")?;
    for log in &incident.sample_logs {
        let time = output.paint(&shown(log.time_unix_nano), Tone::Dim);
        let level = output.paint(level_name(log.level()), Tone::of_level(log.level()));
        output.line(&format!("{time} {level} {}", escape(&log.message)))?;
        let known = [("id", &log.log_id), ("trace", &log.trace_id), ("instance", &log.instance)];
        let known = known.iter().filter(|(_, value)| !value.is_empty());
        let known: Vec<String> = known.map(|(name, value)| format!("{name} {value}")).collect();
        if !known.is_empty() {
            let line = output.paint(&escape(&known.join("  ")), Tone::Dim);
            output.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

fn timeline(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    if incident.timeline.is_empty() {
        return Ok(());
    }
    section(output, "timeline")?;
    let row = |entry: &v1::TimelineEntry| {
        vec![
            text(&shown(entry.time_unix_nano)).tone(Tone::Dim),
            text(&entry.event),
            text(&entry.actor).tone(Tone::Dim),
            text(&entry.text),
        ]
    };
    let rows = incident.timeline.iter().map(row).collect();
    output.table(&["time", "what", "by", "why"], rows)
}

fn deliveries(output: &mut Output, incident: &v1::Incident) -> io::Result<()> {
    section(output, "told")?;
    // The one section that is there without entries: that nobody was told matters.
    if incident.deliveries.is_empty() {
        return output.line("nobody");
    }
    let row = |delivery: &v1::AlertDelivery| {
        let (state, tone) = delivery_state(delivery);
        vec![
            text(&shown(delivery.created_unix_nano)).tone(Tone::Dim),
            text(&delivery.channel).tone(Tone::Name),
            text(&delivery.kind),
            text(state).tone(tone),
            count(delivery.attempts.into()),
            text(&delivery.text),
        ]
    };
    let rows = incident.deliveries.iter().map(row).collect();
    output.table(&["time", "channel", "what", "state", "tries", "why"], rows)
}

/// Commands that are of use now.
fn next(incident: &v1::Incident) -> Vec<String> {
    // People paste these. Only ids and names stand in them, and no text that a sender wrote: a
    // quote in a message could end the quoting, and the rest would be run.
    let id = &incident.incident_id;
    let mut commands = Vec::new();
    match incident.state() {
        v1::IncidentState::Firing => commands.push(format!("logweir incidents ack {id}")),
        v1::IncidentState::Acknowledged => commands.push(format!("logweir incidents unack {id}")),
        _ => {}
    }
    let from = began(incident) - AROUND;
    let from = from.to_rfc3339_seconds();
    let until = match incident.resolved_unix_nano {
        0 => String::new(),
        over => {
            let to = Timestamp::from_unix_nanos(over) + AROUND;
            format!(" --to {}", to.to_rfc3339_seconds())
        }
    };
    let service = match incident.service.as_str() {
        "" => String::new(),
        service => format!("service:{service} "),
    };
    commands.push(format!("logweir search '{service}level>=warn' --from {from}{until}"));
    if let Some(cause) = incident.probable_causes.first() {
        let id = &cause.template_id;
        commands.push(format!("logweir search '{service}template:{id}' --from {from}{until}"));
    }
    if let Some(log) = incident.sample_logs.iter().find(|log| !log.log_id.is_empty()) {
        commands.push(format!("logweir get {}", log.log_id));
    }
    if let Some(trace) = incident.trace_ids.first() {
        commands.push(format!("logweir search trace:{trace}"));
    }
    if matches!(incident.state(), v1::IncidentState::Firing | v1::IncidentState::Acknowledged) {
        commands.push(format!("logweir incidents note {id} 'what you found'"));
        commands.push(format!("logweir incidents snooze {id} --for 1h"));
        commands.push(format!("logweir incidents resolve {id}"));
    }
    commands
}
