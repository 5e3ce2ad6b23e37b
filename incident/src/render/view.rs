//! A notification as a person reads it: everything in words, cleaned and cut, nothing yet in any
//! channel's markup. Channels lay it out, and templates are given it.
//!
//! The order is that of the questions of somebody who was woken up: what broke, how bad, since
//! when, how far from normal, why probably, where to look.

use logweir_core::timestamp::Timestamp;
use serde::Serialize;

use crate::{
    incident::{Incident, IncidentState, Measured},
    notification::{Notification, NotificationKind},
    render::text::{clean_line, moment, number, span, time_of_day},
};

/// Characters of a title.
const TITLE_CHARS_MAX: usize = 140;
/// Characters of a sentence.
const SENTENCE_CHARS_MAX: usize = 600;
/// Characters of a pattern or a sample log.
const LINE_CHARS_MAX: usize = 300;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 128;

/// A number is shown as so many times the expected one from here on, or down to here; nearer to it
/// the two numbers say it better.
const TIMES_MIN: f64 = 1.5;
const TIMES_MAX_BELOW: f64 = 0.67;
/// Services that a digest's title names: more do not fit on a line.
const TITLE_SERVICES_MAX: usize = 3;

/// A notification in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct View {
    /// `opened`, `updated`, `escalated`, `reminder`, `resolved` or `digest`.
    pub kind: &'static str,
    /// The state or the severity in a word, such as `Critical` or `Resolved`.
    pub status: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Whether it is over.
    pub is_resolved: bool,
    /// Whether it is only a test.
    pub is_test: bool,
    /// One line: the service and what is wrong.
    pub title: String,
    /// One sentence, with numbers.
    pub summary: String,
    /// Why people are told now; empty if the kind says it.
    pub text: String,
    /// The service; empty where it is about the system itself.
    pub service: String,
    /// The rule.
    pub rule: String,
    /// When it began.
    pub since: String,
    /// When it began, the time of day alone.
    pub since_time: String,
    /// When it was over; empty while it is not.
    pub until: String,
    /// How long it has lasted.
    pub lasted: String,
    /// The measured numbers, against what is expected.
    pub numbers: Vec<NumberView>,
    /// The probable causes, the most probable first.
    pub causes: Vec<CauseView>,
    /// Deploys shortly before, such as `checkout 1.4.2 at 10:01:07`.
    pub deploys: Vec<String>,
    /// Logs that show it.
    pub samples: Vec<SampleView>,
    /// The instances that logged it.
    pub instances: Vec<String>,
    /// Ids of traces that show it.
    pub traces: Vec<String>,
    /// Address of the page about it; empty if none is configured.
    pub link: String,
    /// What to do; empty if the rule has none. Only an `https` or `http` address is a link.
    pub runbook: String,
    /// Who sees to it; empty for nobody.
    pub acknowledged_by: String,
    /// The incident's id.
    pub incident_id: String,
    /// The key by which a repeat is told.
    pub key: String,
    /// The incidents of a digest, the first included.
    pub others: Vec<LineView>,
    /// How many incidents a digest stands for.
    pub count: u64,
}

/// A measured number, against what is expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NumberView {
    /// What is measured.
    pub name: String,
    /// The number now.
    pub now: String,
    /// What is expected; `–` if not known.
    pub normal: String,
    /// The threshold; `–` without one.
    pub threshold: String,
    /// How many times normal, such as `40×`; empty if that says nothing.
    pub times: String,
}

/// A probable cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseView {
    /// The pattern.
    pub pattern: String,
    /// The level's name.
    pub level: String,
    /// Such as `412 now, usually 3`, or `never seen before, 12 now`.
    pub growth: String,
}

/// A sample log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampleView {
    /// Time of day, UTC.
    pub time: String,
    /// The level's name.
    pub level: String,
    /// The message, on one line.
    pub message: String,
}

/// An incident on one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineView {
    /// The state or the severity in a word.
    pub status: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// Whether it is over.
    pub is_resolved: bool,
    /// The service and what is wrong.
    pub title: String,
    /// When it began.
    pub since: String,
    /// Address of the page about it; may be empty.
    pub link: String,
}

impl View {
    /// Puts a notification into words.
    pub fn new(notification: &Notification, key: &str, is_test: bool) -> Self {
        let incident = &notification.incident;
        let evidence = &incident.evidence;
        let is_resolved = incident.state == IncidentState::Resolved;
        let is_digest = !notification.others.is_empty();
        let began = began(incident);
        let ended = incident.resolved_at.unwrap_or(notification.at);
        // Every text is cleaned and cut here, once: what channels and templates are given is safe
        // to show.
        let title = if is_digest { digest_title(notification) } else { title(incident) };
        Self {
            kind: notification.kind.name(),
            status: if is_digest { "Digest".into() } else { status(notification) },
            severity: worst(notification).to_string(),
            // A digest with one incident that goes on must not look as if all were over.
            is_resolved: is_resolved && (!is_digest || notification.others.iter().all(is_over)),
            is_test,
            title,
            summary: clean_line(&evidence.summary, SENTENCE_CHARS_MAX),
            text: clean_line(&notification.text, SENTENCE_CHARS_MAX),
            service: name(&incident.service),
            rule: name(&incident.rule),
            since: moment(began),
            since_time: time_of_day(began),
            until: incident.resolved_at.map(moment).unwrap_or_default(),
            lasted: span(ended.since(began)),
            numbers: evidence.measured.iter().map(NumberView::new).collect(),
            causes: evidence
                .probable_causes
                .iter()
                .map(|cause| CauseView::new(cause, is_resolved))
                .collect(),
            deploys: evidence.deploys.iter().map(deploy).collect(),
            samples: evidence.sample_logs.iter().map(SampleView::new).collect(),
            instances: evidence.instances.iter().map(|text| name(text)).collect(),
            traces: evidence.trace_ids.iter().map(|text| name(text)).collect(),
            link: link(&evidence.link),
            runbook: clean_line(&incident.runbook, SENTENCE_CHARS_MAX),
            acknowledged_by: name(&incident.acknowledged_by),
            incident_id: name(&incident.id),
            key: name(key),
            others: if is_digest {
                std::iter::once(incident).chain(&notification.others).map(line).collect()
            } else {
                Vec::new()
            },
            count: notification.count,
        }
    }

    /// The runbook, if it is an address.
    pub fn runbook_link(&self) -> String {
        link(&self.runbook)
    }

    /// One line that says it all, for a phone's lock screen and a mail's subject.
    pub fn headline(&self) -> String {
        let test = if self.is_test { "[TEST] " } else { "" };
        format!("{test}[{}] {}", self.status, self.title)
    }
}

impl NumberView {
    fn new(measured: &Measured) -> Self {
        let share =
            measured.normal.filter(|normal| *normal > 0.0).map(|normal| measured.now / normal);
        let is_worth_it = |times: &f64| *times >= TIMES_MIN || *times <= TIMES_MAX_BELOW;
        let times = share.filter(|times| times.is_finite() && is_worth_it(times));
        Self {
            name: name(&measured.name),
            now: number(measured.now),
            normal: measured.normal.map_or_else(|| "–".to_owned(), number),
            threshold: measured.threshold.map_or_else(|| "–".to_owned(), number),
            times: times.map_or_else(String::new, |times| format!("{}×", number(times))),
        }
    }
}

impl CauseView {
    fn new(cause: &crate::incident::ProbableCause, is_over: bool) -> Self {
        let when = if is_over { "then" } else { "now" };
        let now = format!("{} {when}", number(cause.count_now as f64));
        // "Usually 0" would say the same and be overlooked.
        let growth = if cause.is_new {
            format!("never seen before, {now}")
        } else {
            format!("{now}, usually {}", number(cause.count_before))
        };
        let pattern = clean_line(&cause.pattern, LINE_CHARS_MAX);
        Self { pattern, level: name(&cause.level), growth }
    }
}

impl SampleView {
    fn new(sample: &crate::incident::SampleLog) -> Self {
        let message = clean_line(&sample.message, LINE_CHARS_MAX);
        Self { time: time_of_day(sample.at), level: name(&sample.level), message }
    }
}

fn name(text: &str) -> String {
    clean_line(text, NAME_CHARS_MAX)
}

fn is_over(incident: &Incident) -> bool {
    incident.state == IncidentState::Resolved
}

fn worst(notification: &Notification) -> crate::rule::Severity {
    // A digest is as bad as the worst in it.
    let others = notification.others.iter().map(|incident| incident.severity);
    others
        .max()
        .map_or(notification.incident.severity, |worst| worst.max(notification.incident.severity))
}

/// When it began: as the logs tell, else when it was seen.
fn began(incident: &Incident) -> Timestamp {
    match incident.evidence.started_at {
        Timestamp::EPOCH => incident.pending_at,
        started => started,
    }
}

fn status(notification: &Notification) -> String {
    let incident = &notification.incident;
    let word = match (incident.state, notification.kind) {
        (IncidentState::Resolved, _) => "Resolved".to_owned(),
        // Only where that is the news: a reminder of what somebody sees to is still a reminder.
        (IncidentState::Acknowledged, NotificationKind::Updated) => "Acknowledged".to_owned(),
        (_, kind) => {
            let severity = incident.severity.to_string();
            // Severities are ASCII.
            let severity = severity[..1].to_ascii_uppercase() + &severity[1..];
            match kind {
                NotificationKind::Escalated => format!("{severity}, escalated"),
                NotificationKind::Reminder => format!("{severity}, still firing"),
                _ => severity,
            }
        }
    };
    match notification.count {
        0 | 1 => word,
        count => format!("{word}, {count} times"),
    }
}

/// The service, and the first number or else the rule.
fn title(incident: &Incident) -> String {
    // Without a service it is about this installation itself.
    let about = match incident.service.as_str() {
        "" => "logweir",
        service => service,
    };
    // Numbers rather than the rule's name: what is wrong is known before anything is opened.
    let what = match incident.evidence.measured.first() {
        Some(measured) => {
            let shown = NumberView::new(measured);
            let against = match measured.normal {
                Some(_) => format!(" (normal {})", shown.normal),
                None => String::new(),
            };
            let was = if is_over(incident) { "was " } else { "" };
            format!("{} {was}{}{against}", shown.name, shown.now)
        }
        None => incident.rule.clone(),
    };
    clean_line(&format!("{about}: {what}"), TITLE_CHARS_MAX)
}

fn digest_title(notification: &Notification) -> String {
    let mut services: Vec<&str> = std::iter::once(&notification.incident)
        .chain(&notification.others)
        .map(|incident| incident.service.as_str())
        .filter(|service| !service.is_empty())
        .collect();
    // By name, so that the same incidents always make the same title.
    services.sort_unstable();
    services.dedup();
    // Names first, and how many more: the first are what somebody may recognise.
    let shown = services.iter().take(TITLE_SERVICES_MAX).copied().collect::<Vec<_>>().join(", ");
    let more = match services.len().saturating_sub(TITLE_SERVICES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    clean_line(&format!("{} incidents: {shown}{more}", notification.count), TITLE_CHARS_MAX)
}

fn line(incident: &Incident) -> LineView {
    let severity = incident.severity.to_string();
    let status = match incident.state {
        IncidentState::Resolved => "resolved".to_owned(),
        _ => severity.clone(),
    };
    let until = incident.resolved_at.map(time_of_day);
    let since = time_of_day(began(incident));
    LineView {
        status,
        severity,
        is_resolved: is_over(incident),
        title: title(incident),
        // Both ends of what is over: in a digest it may have come and gone unseen.
        since: until.map_or_else(|| since.clone(), |until| format!("{since}–{until}")),
        link: link(&incident.evidence.link),
    }
}

fn deploy(mark: &crate::incident::DeployMark) -> String {
    let at = time_of_day(mark.at);
    format!("{} {} at {at}", name(&mark.service), name(&mark.version))
}

/// Only what is an address of the web is a link.
fn link(text: &str) -> String {
    // `javascript:` and the like would run in the reader's browser or mail.
    match url::Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => url.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{example::notification, incident::Event};

    pub(crate) fn view() -> View {
        let notification = notification(NotificationKind::Opened);
        View::new(&notification, &notification.key, false)
    }

    #[test]
    fn an_incident_in_words() {
        let view = view();
        assert_eq!(view.headline(), "[Critical] checkout: errors/min 80 (normal 2)");
        assert_eq!(view.numbers[0].times, "40×");
        assert_eq!(view.since, "2026-03-08 02:41:10 UTC");
        assert_eq!(view.lasted, "2 min 5 s");
        assert_eq!(view.causes[0].growth, "412 now, usually 3");
        assert_eq!(view.causes[1].growth, "never seen before, 37 now");
        assert_eq!(view.deploys, ["checkout 1.4.2 at 02:40:02"]);
    }

    #[test]
    fn only_addresses_of_the_web_are_links() {
        let mut notification = notification(NotificationKind::Opened);
        for (text, expected) in [
            ("https://logs.example/i/1", "https://logs.example/i/1"),
            ("javascript:alert(1)", ""),
            ("/incidents/1", ""),
            ("", ""),
        ] {
            notification.incident.evidence.link = text.into();
            assert_eq!(View::new(&notification, "k", false).link, expected, "{text}");
        }
    }

    #[test]
    fn an_end_is_told_with_its_length() {
        let mut notification = notification(NotificationKind::Resolved);
        notification.incident.note(Timestamp::EPOCH, Event::Resolved, "", "");
        let view = View::new(&notification, "k", true);
        assert!(
            view.headline().starts_with("[TEST] [Resolved] checkout: errors/min was 80"),
            "{}",
            view.headline()
        );
        assert_eq!(view.lasted, "29 min 12 s");
        assert_eq!(view.causes[0].growth, "412 then, usually 3");
    }

    #[test]
    fn a_digest_names_services() {
        let mut digest = notification(NotificationKind::Digest);
        for service in ["a", "b", "c", "c"] {
            digest.others.push(Incident { service: service.into(), ..digest.incident.clone() });
        }
        digest.count = 40;
        let view = View::new(&digest, "k", false);
        assert_eq!(view.title, "40 incidents: a, b, c and 1 more");
        assert_eq!(view.others.len(), 5);
    }
}
