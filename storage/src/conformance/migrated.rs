//! What a version before kept, and that this one takes it up: of alerting, of which all that a leader
//! remembered of a tenant was one text beside the incidents; and of producers, whose accounts were
//! not added up.

use std::time::Duration;

use logweir_core::timestamp::Timestamp;
use logweir_incident::{
    channel::ChannelState,
    example,
    incident::{Incident, IncidentState},
    notification::NotificationKind,
    rule::Severity,
    tracking::{TrackedIncident, Tracking},
};
use serde_json::{Value, json};

use super::sample::{service, tenant};
use crate::{
    IncidentQuery, JobKind, JobState, ProducerTotals, Storage, producer_totals::ACCOUNT_FIGURE_MAX,
};

const FIRED: Timestamp = Timestamp::from_unix_seconds(1_772_937_679);
const NANO: Duration = Duration::from_nanos(1);

/// A row of the old `incidents`: id, state, service, began, resolved and body.
type OldIncident = (String, &'static str, String, i64, Option<i64>, String);

/// What the version before wrote into its tables.
pub(crate) struct Before {
    pub(crate) incidents: Vec<OldIncident>,
    /// Rows of `alert_states`: name and body.
    pub(crate) states: Vec<(&'static str, String)>,
}

fn incident(id: &str, state: IncidentState) -> Incident {
    let is_over = state == IncidentState::Resolved;
    let mut incident = example::notification(NotificationKind::Opened).incident;
    incident.id = id.to_owned();
    incident.state = state;
    incident.resolved_at = is_over.then_some(FIRED + Duration::from_secs(60));
    incident.evidence.summary = "it's 100 % \"gone\" \u{0}, not \\u0000".to_owned();
    incident
}

fn series() -> String {
    "error-spike\u{1f}checkout".to_owned()
}

fn tracked(incident: &Incident) -> Value {
    json!({
        "incident": incident, "key": series(), "breach_since_unix_nano": FIRED,
        "last_breach_unix_nano": FIRED + 5 * NANO, "sequence": 2, "is_closed": false,
        "told_severity": "warning", "last_told_unix_nano": FIRED + 7 * NANO, "reminders": 1,
        "is_changed": true, "keep_firing_seconds": 300
    })
}

/// A firing incident, whose row is older than what the leader remembered; one that is only pending
/// and has no row; one that is long over; and a channel that is down.
pub(crate) fn before() -> Before {
    let firing = incident("a", IncidentState::Firing);
    let mut older = firing.clone();
    older.evidence.summary.clear();
    let row = |of: &Incident, state| {
        let resolved = of.resolved_at.map(Timestamp::as_unix_nanos);
        let (began, body) = (of.pending_at.as_unix_nanos(), serde_json::to_string(of).unwrap());
        (of.id.clone(), state, of.service.clone(), began, resolved, body)
    };
    let over = incident("c", IncidentState::Resolved);
    let pending = incident("b", IncidentState::Pending);
    let keeper = json!({
        "tracked": { "a": tracked(&firing), "b": tracked(&pending) },
        "changes": { series(): [FIRED] }, "fired": { series(): [FIRED] }
    });
    Before {
        incidents: vec![row(&older, "firing"), row(&over, "resolved")],
        states: vec![
            ("keeper", keeper.to_string()),
            ("channel:a: b", json!({ "last_error": "no answer" }).to_string()),
        ],
    }
}

/// All of it is there. Of what the leader remembered, the character 0 came through as `zero`.
pub(crate) async fn check_taken_up(storage: &dyn Storage, zero: &str, job_id: u64) {
    let tracking = Tracking {
        series: series(),
        breach_since: Some(FIRED),
        last_breach: FIRED + 5 * NANO,
        sequence: 2,
        notified_at: FIRED + 7 * NANO,
        notified_severity: Severity::Warning,
        reminders: 1,
        is_changed: true,
        is_closed: false,
        keep_firing_seconds: 300,
    };
    let open = [("a", IncidentState::Firing), ("b", IncidentState::Pending)].map(|(id, state)| {
        let mut incident = incident(id, state);
        incident.evidence.summary = incident.evidence.summary.replace('\0', zero);
        TrackedIncident { incident, tracking: tracking.clone() }
    });
    let of_over = Tracking { series: series(), is_closed: true, ..Tracking::default() };
    let over = incident("c", IncidentState::Resolved);
    let over = TrackedIncident { incident: over, tracking: of_over };
    let found = storage.tracked_incidents(&tenant(), Timestamp::EPOCH).await.unwrap();
    assert_eq!(found, [&open[..], &[over]].concat());
    let shown = IncidentQuery { limit: 9, ..IncidentQuery::default() };
    let shown = storage.list_incidents(&tenant(), shown).await.unwrap();
    assert_eq!(shown.iter().map(|of| &*of.incident_id).collect::<Vec<_>>(), ["a", "c"]);
    let down = ChannelState { last_error: "no answer".into(), ..ChannelState::default() };
    let states = storage.channel_states(&tenant()).await.unwrap();
    assert_eq!(states, [("a: b".to_owned(), down)].into());
    let taken = storage
        .take_job(JobKind::Detection, Timestamp::from_unix_nanos(9), Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(taken.map(|job| job.job_id), Some(job_id));
    let state = storage.job_state(&tenant(), job_id).await.unwrap();
    assert_eq!(state, JobState::Running);
}

/// A row of `producers` before: service, emitted, dropped, queued, spooled, stored, dead-lettered.
pub(crate) type OldProducer = (&'static str, i64, &'static str, i64, i64, i64, i64);

/// Counts are 64 bits without a sign. One row is of a producer of which nothing was stored.
pub(crate) const PRODUCERS: [OldProducer; 5] = [
    ("payments", 100, r#"[["buffer_full", 5], ["too_large", 2]]"#, 3, 4, 80, 1),
    ("payments", 10, "[]", 0, 0, 30, 0),
    ("orders", -1, r#"[["absurd", 18446744073709551615]]"#, 0, 0, 7, 0),
    ("orders", -1, "[]", 0, 0, 0, 0),
    ("", 0, "[]", 0, 0, 0, 0),
];

/// What they come to.
pub(crate) async fn check_summed(storage: &dyn Storage) {
    let largest = ACCOUNT_FIGURE_MAX;
    let expected = [
        ("orders", [2, 2 * largest, largest, 0, 0, 7, 0, largest]),
        ("payments", [2, 110, 7, 3, 4, 110, 1, 5]),
    ];
    let expected = expected.map(|(name, figures)| ProducerTotals::of(service(name), figures));
    assert_eq!(storage.producer_totals(&tenant(), None).await.unwrap(), expected);
}
