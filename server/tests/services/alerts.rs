//! The alert service: who may do what, what is refused and why, what is never shown, and that a
//! tenant reaches nothing of another's.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use logweir_alerting::{
    channel::address::AddressPolicy,
    channel::{Network, SystemResolver},
    jobs::{self, JobDependencies},
};
use logweir_core::{identity::Role, identity::Tenant, timestamp::Timestamp};
use logweir_incident::{
    action::Action,
    channel::ChannelState,
    delivery::Delivery,
    example,
    incident::{Incident, IncidentState},
    notification::NotificationKind,
    setting::SettingKind,
    tracking::{TrackedIncident, Tracking},
};
use logweir_proto::v1::{
    self, act_on_incident_request::Action as Act, alert_service_client::AlertServiceClient,
};
use logweir_storage::{
    AlertChanges, DeliveryUpdate, JobKind, KeepAlerts, NewDelivery, PassJobs, StoredDelivery,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::harness::{Bench, NOW, reason, with_token};

const HOUR: Duration = Duration::from_secs(3_600);

struct Alerts {
    bench: Bench,
    admin: String,
}

impl Alerts {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let admin = bench.admin();
        Self { bench, admin }
    }

    fn client(&self) -> AlertServiceClient<Channel> {
        AlertServiceClient::new(self.bench.channel.clone())
    }

    async fn put_rule(&self, definition: &Value) -> Result<v1::PutRuleResponse, Status> {
        let request = v1::PutRuleRequest { definition: definition.to_string() };
        Ok(self.client().put_rule(with_token(&self.admin, request)).await?.into_inner())
    }

    async fn rules(&self, token: &str) -> Vec<v1::AlertRule> {
        let request = with_token(token, v1::ListRulesRequest {});
        self.client().list_rules(request).await.unwrap().into_inner().rules
    }

    async fn delete_rule(&self, name: &str) -> Result<(), Status> {
        let request = v1::DeleteRuleRequest { name: name.into() };
        self.client().delete_rule(with_token(&self.admin, request)).await.map(drop)
    }

    async fn put_channel(&self, config: &Value) -> Result<v1::PutChannelResponse, Status> {
        let request = v1::PutChannelRequest { config: config.to_string() };
        Ok(self.client().put_channel(with_token(&self.admin, request)).await?.into_inner())
    }

    async fn channels(&self, token: &str) -> Vec<v1::AlertChannel> {
        let request = with_token(token, v1::ListChannelsRequest {});
        self.client().list_channels(request).await.unwrap().into_inner().channels
    }

    async fn test_channel(&self, name: &str) -> Result<v1::TestChannelResponse, Status> {
        let request = v1::TestChannelRequest { name: name.into() };
        Ok(self.client().test_channel(with_token(&self.admin, request)).await?.into_inner())
    }

    async fn put_silence(&self, silence: v1::Silence) -> Result<v1::Silence, Status> {
        let request = v1::PutSilenceRequest { silence: Some(silence) };
        let answer = self.client().put_silence(with_token(&self.admin, request)).await?;
        Ok(answer.into_inner().silence.unwrap())
    }

    async fn silences(&self, token: &str) -> Vec<v1::Silence> {
        let request = with_token(token, v1::ListSilencesRequest {});
        self.client().list_silences(request).await.unwrap().into_inner().silences
    }

    async fn incidents(&self, token: &str, asked: v1::ListIncidentsRequest) -> Vec<v1::Incident> {
        let answer = self.client().list_incidents(with_token(token, asked)).await;
        answer.unwrap().into_inner().incidents
    }

    async fn incident(&self, token: &str, id: &str) -> Result<v1::Incident, Status> {
        let request = v1::GetIncidentRequest { incident_id: id.into() };
        let answer = self.client().get_incident(with_token(token, request)).await?;
        Ok(answer.into_inner().incident.unwrap())
    }

    async fn act(&self, token: &str, id: &str, action: Option<Act>) -> Result<String, Status> {
        let request = v1::ActOnIncidentRequest { incident_id: id.into(), action };
        let answer = self.client().act_on_incident(with_token(token, request)).await?;
        Ok(answer.into_inner().incident_id)
    }

    /// What was left for the leader.
    async fn actions(&self) -> Vec<Action> {
        let left = self.bench.storage.list_actions(100).await.unwrap();
        left.into_iter().map(|waiting| waiting.action.unwrap()).collect()
    }

    /// Has an alerting process take jobs, which may call this machine.
    fn serve_jobs(&self) {
        let here = "127.0.0.1/32".parse().unwrap();
        let policy = AddressPolicy { networks_allowed: vec![here], ..AddressPolicy::default() };
        let storage = &self.bench.storage;
        let parts = JobDependencies {
            read: storage.clone(),
            alerts: storage.clone(),
            jobs: storage.clone(),
            network: Network::new(policy, Arc::new(SystemResolver), &[]).unwrap(),
            clock: Arc::new(|| NOW),
        };
        jobs::start(&parts, &self.bench.tasks);
    }

    /// Notes that what waits for a channel was tried three times in vain.
    async fn try_three_times(&self, channel: &str) {
        let storage = &self.bench.storage;
        let waiting = storage.waiting_deliveries(&Tenant::default(), channel, 9).await.unwrap();
        let tried = |of: StoredDelivery| DeliveryUpdate {
            delivery_id: of.delivery_id,
            state: of.state,
            delivery: of.delivery.map(|delivery| Delivery { attempts: 3, ..delivery }),
            thread: None,
        };
        let updates = waiting.into_iter().map(tried).collect();
        self.commit(AlertChanges { updates, ..AlertChanges::default() }).await;
    }

    /// As the leader does.
    async fn commit(&self, changes: AlertChanges) {
        let storage = &self.bench.storage;
        let epoch = storage.lead("test", Duration::from_secs(10)).await.unwrap().unwrap();
        let committed = storage.commit_alerts(epoch, &Tenant::default(), changes).await.unwrap();
        assert!(committed.is_some());
    }
}

fn rule(name: &str, measure: Value) -> Value {
    json!({ "name": name, "measure": measure })
}

fn webhook(name: &str, url: &str) -> Value {
    let webhook = json!({ "url": url, "signing_secret": "signs", "allow_http": true });
    json!({ "name": name, "kind": { "webhook": webhook } })
}

fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request();
    let violations = bad.into_iter().flat_map(|bad| bad.field_violations);
    violations.map(|violation| violation.field).collect()
}

fn assert_invalid(refused: &Status, field: &str) {
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert_eq!(fields(refused), [field], "{refused}");
}

#[tokio::test]
async fn a_viewer_lists_and_an_administrator_changes() {
    let alerts = Alerts::new().await;
    let viewer = alerts.bench.token("default", "*", Role::Viewer);
    assert!(!alerts.rules(&viewer).await.is_empty());
    assert_eq!(alerts.channels(&viewer).await, []);
    assert_eq!(alerts.silences(&viewer).await, []);
    assert_eq!(alerts.incidents(&viewer, v1::ListIncidentsRequest::default()).await, []);
    let mut client = alerts.client();
    macro_rules! refused {
        ($($call:ident($request:expr)),*) => {$(
            let refused = client.$call(with_token(&viewer, $request)).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, stringify!($call));
            assert_eq!(reason(&refused), "ROLE_INSUFFICIENT");
        )*};
    }
    refused!(
        put_rule(v1::PutRuleRequest::default()),
        delete_rule(v1::DeleteRuleRequest::default()),
        put_channel(v1::PutChannelRequest::default()),
        delete_channel(v1::DeleteChannelRequest::default()),
        test_channel(v1::TestChannelRequest::default()),
        put_silence(v1::PutSilenceRequest::default()),
        delete_silence(v1::DeleteSilenceRequest::default()),
        act_on_incident(v1::ActOnIncidentRequest::default())
    );
    let ingest = alerts.bench.token("default", "*", Role::Ingest);
    let refused = client.list_rules(with_token(&ingest, v1::ListRulesRequest {})).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stored_rule_takes_the_place_of_a_built_in_one_until_it_is_deleted() {
    let alerts = Alerts::new().await;
    let built_in = alerts.rules(&alerts.admin).await;
    assert!(built_in.iter().all(|rule| rule.built_in && rule.enabled));
    let name = built_in[0].name.clone();
    let mut definition: Value = serde_json::from_str(&built_in[0].definition).unwrap();
    definition["enabled"] = false.into();
    definition["channels"] = json!(["nobody"]);
    let stored = alerts.put_rule(&definition).await.unwrap();
    assert_eq!(stored.warnings, [r#"there is no channel "nobody" yet"#]);
    let stored = stored.rule.unwrap();
    assert!(!stored.built_in && !stored.enabled);
    let of_name = |rules: Vec<v1::AlertRule>| {
        rules.into_iter().filter(|rule| rule.name == name).collect::<Vec<_>>()
    };
    assert_eq!(of_name(alerts.rules(&alerts.admin).await), [stored]);
    let stranger = alerts.bench.token("other", "*", Role::Admin);
    assert_eq!(alerts.rules(&stranger).await, built_in);
    alerts.delete_rule(&name).await.unwrap();
    assert_eq!(alerts.rules(&alerts.admin).await, built_in);
    let refused = alerts.delete_rule(&name).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(alerts.delete_rule("unknown").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_wrong_rule_is_refused_with_every_mistake() {
    let alerts = Alerts::new().await;
    let absolute = json!({ "absolute": 1 });
    let matching = |filter: &str| {
        let window = 60;
        json!({ "kind": "match_count", "filter": filter, "window_seconds": window, "threshold": absolute })
    };
    for wrong in [
        rule("a", json!({ "kind": "unheard_of" })),
        rule("", matching("level:error")),
        rule("a", matching("level:(")),
        json!({ "name": "a", "measure": matching("x"), "serverity": "critical" }),
        Value::Null,
    ] {
        let refused = alerts.put_rule(&wrong).await.unwrap_err();
        assert_invalid(&refused, "definition");
    }
    let twice = rule("", matching("level:("));
    let refused = alerts.put_rule(&twice).await.unwrap_err();
    assert_eq!(fields(&refused), ["definition"; 2]);
    let long = rule("a", matching(&"x".repeat(70_000)));
    assert_invalid(&alerts.put_rule(&long).await.unwrap_err(), "definition");
    assert!(alerts.rules(&alerts.admin).await.iter().all(|rule| rule.built_in));
    alerts.put_rule(&rule("a", matching("level:error"))).await.unwrap();
}

#[tokio::test]
async fn secrets_are_kept_and_never_shown() {
    let alerts = Alerts::new().await;
    let url = "https://hooks.example.com/token-in-the-path";
    let stored = alerts.put_channel(&webhook("hook", url)).await.unwrap().channel.unwrap();
    let listed = alerts.channels(&alerts.admin).await;
    assert_eq!((listed.len(), &listed[0]), (1, &stored));
    assert!(!stored.config.contains("token-in") && !stored.config.contains("signs"), "{stored:?}");
    // What was shown is sent back with another wording.
    let mut config: Value = serde_json::from_str(&stored.config).unwrap();
    config["templates"]["title"] = "{{ service }}".into();
    config["fallback"] = "mail".into();
    let changed = alerts.put_channel(&config).await.unwrap();
    assert_eq!(changed.warnings, [r#"there is no channel "mail" yet"#]);
    let kept = alerts.bench.storage.list_all_settings(&Tenant::default()).await.unwrap();
    let [setting] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(setting.kind, SettingKind::Channel);
    let kept = serde_json::to_value(setting.channel().unwrap()).unwrap();
    assert_eq!((&kept["kind"]["webhook"]["url"], &kept["fallback"]), (&url.into(), &"mail".into()));
    // A secret does not go to a new address.
    config["kind"]["webhook"]["url"] = "https://elsewhere.example.com/".into();
    assert_invalid(&alerts.put_channel(&config).await.unwrap_err(), "config");
    let reset = Action::ResetChannel { channel: "hook".into() };
    assert_eq!(alerts.actions().await, [reset.clone(), reset]);
}

#[tokio::test]
async fn a_wrong_channel_is_refused_and_a_strangers_is_not_there() {
    let alerts = Alerts::new().await;
    let good = webhook("hook", "https://hooks.example.com/");
    let mut to_itself = good.clone();
    to_itself["fallback"] = "hook".into();
    let mut template = good.clone();
    template["templates"] = json!({ "title": "{{ titel }}" });
    for (wrong, field) in [
        (json!({ "name": "hook", "kind": { "pigeon": {} } }), "config"),
        (webhook("hook", "no address"), "config"),
        (webhook("", "https://hooks.example.com/"), "config.name"),
        (to_itself, "config.fallback"),
        (template, "config"),
    ] {
        assert_invalid(&alerts.put_channel(&wrong).await.unwrap_err(), field);
    }
    alerts.put_channel(&good).await.unwrap();
    let stranger = alerts.bench.token("other", "*", Role::Admin);
    assert_eq!(alerts.channels(&stranger).await, []);
    let delete = |token: &str| {
        let request = with_token(token, v1::DeleteChannelRequest { name: "hook".into() });
        let mut client = alerts.client();
        async move { client.delete_channel(request).await.map(drop) }
    };
    assert_eq!(delete(&stranger).await.unwrap_err().code(), Code::NotFound);
    delete(&alerts.admin).await.unwrap();
    assert_eq!(delete(&alerts.admin).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(alerts.test_channel("hook").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_channel_shows_how_it_is() {
    let alerts = Alerts::new().await;
    alerts.put_channel(&webhook("hook", "https://hooks.example.com/")).await.unwrap();
    let (until, since) = (NOW.as_unix_nanos() + 5, NOW.as_unix_nanos() - 5);
    let state: ChannelState = serde_json::from_value(json!({
        "breaker": { "state": "open", "until_unix_nano": until, "down_since_unix_nano": since },
        "last_error": "no answer"
    }))
    .unwrap();
    let channels = vec![("hook".to_owned(), state)];
    alerts.commit(AlertChanges { channels, ..AlertChanges::default() }).await;
    let listed = alerts.channels(&alerts.admin).await.remove(0);
    assert_eq!(listed.state(), v1::ChannelState::Open);
    let shown = (listed.until_unix_nano, listed.down_since_unix_nano);
    assert_eq!((shown, &*listed.last_error), ((until, since), "no answer"));
}

#[tokio::test]
async fn a_test_reports_its_steps_and_reaches_no_private_address() {
    let alerts = Alerts::new().await;
    alerts.serve_jobs();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let receiver = axum::serve(listener, Router::new().route("/", post(|| async { "thanks" })));
    alerts.put_channel(&webhook("here", &url)).await.unwrap();
    let report = tokio::select! {
        report = alerts.test_channel("here") => report.unwrap(),
        ended = receiver => panic!("{ended:?}"),
    };
    assert!(report.succeeded, "{report:?}");
    let names: Vec<&str> = report.steps.iter().map(|step| step.name.as_str()).collect();
    assert!(names.contains(&"connect") && names.contains(&"answer"), "{report:?}");
    assert_eq!(alerts.actions().await.len(), 2, "the breaker closes when it is set and tested");
    let metadata = webhook("there", "http://169.254.169.254/latest/meta-data");
    alerts.put_channel(&metadata).await.unwrap();
    let report = alerts.test_channel("there").await.unwrap();
    assert!(!report.succeeded && report.steps.iter().any(|step| !step.succeeded), "{report:?}");
    assert!(report.words.contains("networks_allowed"), "{report:?}");
    assert_eq!(alerts.actions().await.len(), 3, "what failed closes no breaker");
}

#[tokio::test]
async fn without_an_alerting_process_a_test_and_a_preview_say_what_to_do() {
    let alerts = Alerts::new().await;
    alerts.put_channel(&webhook("hook", "http://127.0.0.1:9/")).await.unwrap();
    let measure = json!({ "kind": "match_count", "filter": "boom", "window_seconds": 60,
                          "threshold": { "absolute": 1 } });
    let definition = rule("booms", measure).to_string();
    let request = v1::PreviewRuleRequest { definition, range: None };
    let mut client = alerts.client();
    let preview = client.preview_rule(with_token(&alerts.admin, request));
    let (tested, previewed) = tokio::join!(alerts.test_channel("hook"), preview);
    for refused in [tested.unwrap_err(), previewed.unwrap_err()] {
        assert_eq!((refused.code(), &*reason(&refused)), (Code::Unavailable, "JOB_WAITS"));
        assert!(refused.message().contains("see that `logweir alerting` is running"), "{refused}");
        assert!(refused.get_details_retry_info().is_some());
    }
    let late = NOW + Duration::from_secs(11);
    for kind in [JobKind::ChannelTest, JobKind::RulePreview] {
        let taken = alerts.bench.storage.take_job(kind, late, Duration::ZERO).await.unwrap();
        assert_eq!(taken, None, "nobody waits for it any more");
    }
}

fn silence(label: &str, value: &str, to: Timestamp) -> v1::Silence {
    let matchers = HashMap::from([(label.to_owned(), value.to_owned())]);
    let (to_unix_nano, comment) = (to.as_unix_nanos(), "works".to_owned());
    v1::Silence { matchers, to_unix_nano, comment, ..v1::Silence::default() }
}

#[tokio::test]
async fn a_silence_is_set_changed_and_deleted() {
    let alerts = Alerts::new().await;
    let made = alerts.put_silence(silence("service", "pay*", NOW + HOUR)).await.unwrap();
    assert_eq!(made.from_unix_nano, NOW.as_unix_nanos());
    assert_eq!((made.silence_id.len(), made.author.len()), (16, 16));
    let later = (NOW + 2 * HOUR).as_unix_nanos();
    let longer = v1::Silence { to_unix_nano: later, ..made.clone() };
    let changed = alerts.put_silence(longer).await.unwrap();
    assert_eq!(changed.silence_id, made.silence_id);
    alerts.put_silence(silence("rule", "*", NOW.next())).await.unwrap();
    let listed = alerts.silences(&alerts.admin).await;
    assert_eq!((listed.len(), &listed[0]), (2, &changed));
    let stranger = alerts.bench.token("other", "*", Role::Admin);
    assert_eq!(alerts.silences(&stranger).await, []);
    let delete = |token: &str| {
        let request = v1::DeleteSilenceRequest { silence_id: made.silence_id.clone() };
        let request = with_token(token, request);
        let mut client = alerts.client();
        async move { client.delete_silence(request).await.map(drop) }
    };
    assert_eq!(delete(&stranger).await.unwrap_err().code(), Code::NotFound);
    delete(&alerts.admin).await.unwrap();
    assert_eq!(delete(&alerts.admin).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(alerts.put_silence(changed).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_wrong_silence_is_refused_by_its_field() {
    let alerts = Alerts::new().await;
    let good = silence("service", "a", NOW + HOUR);
    let comment = "x".repeat(2_000);
    let later = (NOW + 2 * HOUR).as_unix_nanos();
    for (wrong, field) in [
        (v1::Silence { matchers: HashMap::new(), ..good.clone() }, "silence.matchers"),
        (silence("", "a", NOW + HOUR), "silence.matchers"),
        (silence("service", "", NOW + HOUR), "silence.matchers"),
        (silence("service", "a", NOW), "silence.to_unix_nano"),
        (silence("service", "a", Timestamp::MAX), "silence.to_unix_nano"),
        (v1::Silence { from_unix_nano: -1, ..good.clone() }, "silence.from_unix_nano"),
        (v1::Silence { from_unix_nano: later, ..good.clone() }, "silence.to_unix_nano"),
        (v1::Silence { comment, ..good }, "silence.comment"),
    ] {
        assert_invalid(&alerts.put_silence(wrong).await.unwrap_err(), field);
    }
    assert_eq!(alerts.silences(&alerts.admin).await, []);
}

fn incident(id: &str, state: IncidentState) -> Incident {
    let mut incident = example::notification(NotificationKind::Opened).incident;
    incident.id = id.to_owned();
    incident.state = state;
    incident.resolved_at = (state == IncidentState::Resolved).then_some(NOW);
    incident
}

fn stored(incident: &Incident) -> TrackedIncident {
    TrackedIncident { incident: incident.clone(), tracking: Tracking::default() }
}

/// That a channel is to be told that the incident was opened.
fn told(incident: &Incident) -> NewDelivery {
    let mut notification = example::notification(NotificationKind::Opened);
    notification.incident = incident.clone();
    NewDelivery { channel: "hook".into(), notification, created_at: NOW }
}

#[tokio::test]
async fn an_incident_is_shown_with_all_that_is_known() {
    let alerts = Alerts::new().await;
    let firing = incident("aaaa01", IncidentState::Firing);
    let over = incident("aaaa02", IncidentState::Resolved);
    alerts
        .commit(AlertChanges {
            incidents: vec![stored(&firing), stored(&over)],
            deliveries: vec![told(&firing)],
            ..AlertChanges::default()
        })
        .await;
    alerts.try_three_times("hook").await;
    let admin = &alerts.admin;
    let listed = alerts.incidents(admin, v1::ListIncidentsRequest::default()).await;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|of| of.sample_logs.is_empty() && !of.summary.is_empty()));
    let open = v1::ListIncidentsRequest { open: true, ..Default::default() };
    let open = alerts.incidents(admin, open).await;
    assert_eq!(open.iter().map(|of| &*of.incident_id).collect::<Vec<_>>(), ["aaaa01"]);
    let nobody = v1::ListIncidentsRequest { service: "nobody".into(), ..Default::default() };
    assert_eq!(alerts.incidents(admin, nobody).await, []);
    let shown = alerts.incident(admin, "aaaa01").await.unwrap();
    assert_eq!(
        (shown.state(), shown.severity()),
        (v1::IncidentState::Firing, v1::Severity::Critical)
    );
    assert_eq!((shown.measured.len(), shown.probable_causes.len()), (2, 2));
    assert_eq!(shown.sample_logs[0].level(), v1::Level::Error);
    assert_eq!((shown.deploys[0].version.as_str(), shown.trace_ids.len()), ("1.4.2", 1));
    let [delivery] = &shown.deliveries[..] else { panic!("{shown:?}") };
    assert_eq!((&*delivery.channel, &*delivery.kind, delivery.attempts), ("hook", "opened", 3));
    assert_eq!(delivery.state(), v1::AlertDeliveryState::Waiting);
}

#[tokio::test]
async fn an_incident_is_found_by_a_beginning_that_no_other_has_and_by_its_tenant_alone() {
    let alerts = Alerts::new().await;
    let incidents = ["aaaa01", "aaaa02", "bbbb01"].map(|id| incident(id, IncidentState::Firing));
    let incidents = incidents.iter().map(stored).collect();
    alerts.commit(AlertChanges { incidents, ..AlertChanges::default() }).await;
    let admin = &alerts.admin;
    assert_eq!(alerts.incident(admin, "bbbb").await.unwrap().incident_id, "bbbb01");
    let refused = alerts.incident(admin, "aaaa").await.unwrap_err();
    assert_invalid(&refused, "incident_id");
    assert!(refused.message().contains("aaaa01, aaaa02"), "{refused}");
    assert_eq!(alerts.incident(admin, "bbb").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(alerts.incident(admin, "cccc").await.unwrap_err().code(), Code::NotFound);
    assert_invalid(&alerts.incident(admin, "").await.unwrap_err(), "incident_id");
    let stranger = alerts.bench.token("other", "*", Role::Admin);
    assert_eq!(alerts.incident(&stranger, "bbbb01").await.unwrap_err().code(), Code::NotFound);
    let acknowledge = Some(Act::Acknowledge(v1::Acknowledge {}));
    let refused = alerts.act(&stranger, "bbbb01", acknowledge).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(alerts.incidents(&stranger, v1::ListIncidentsRequest::default()).await, []);
}

#[tokio::test]
async fn what_is_to_be_done_is_left_for_the_leader() {
    let alerts = Alerts::new().await;
    let incidents =
        [incident("aaaa01", IncidentState::Firing), incident("bbbb01", IncidentState::Resolved)];
    let incidents = incidents.iter().map(stored).collect();
    alerts.commit(AlertChanges { incidents, ..AlertChanges::default() }).await;
    let admin = &alerts.admin;
    let note = |text: &str| Some(Act::Note(v1::Note { text: text.into() }));
    let snooze =
        |until: Timestamp| Some(Act::Snooze(v1::Snooze { until_unix_nano: until.as_unix_nanos() }));
    assert_eq!(alerts.act(admin, "aaaa", note("pool is dry")).await.unwrap(), "aaaa01");
    alerts.act(admin, "aaaa01", snooze(NOW + HOUR)).await.unwrap();
    let actions = alerts.actions().await;
    let [Action::Note { incident_id, actor, text }, Action::Snooze { until, .. }] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((&**incident_id, actor.len(), &**text), ("aaaa01", 16, "pool is dry"));
    assert_eq!(*until, NOW + HOUR);
    for (action, field) in [
        (None, "action"),
        (note(" "), "note.text"),
        (note(&"x".repeat(2_000)), "note.text"),
        (snooze(NOW), "snooze.until_unix_nano"),
        (snooze(NOW + 200 * HOUR), "snooze.until_unix_nano"),
    ] {
        assert_invalid(&alerts.act(admin, "aaaa01", action).await.unwrap_err(), field);
    }
    let unacknowledge = Some(Act::Unacknowledge(v1::Unacknowledge {}));
    for (id, action) in [("aaaa01", unacknowledge), ("bbbb01", note("late"))] {
        let refused = alerts.act(admin, id, action).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{id}");
    }
    assert_eq!(alerts.actions().await.len(), 2);
}
