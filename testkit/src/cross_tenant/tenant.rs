//! A tenant with everything that a tenant can have, made by its own calls.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use logweir_proto::v1;
use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    call::{Answer, Caller, Question},
    contract::{Contract, Method},
    data::{self, Names},
    forged::token_id,
    installation::Installation,
    marks::Words,
    values::Values,
};

/// How long a call of one's own may take: a training on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long to listen to a stream that does not end by itself, and how long until that is known.
const STREAM_DEADLINE: Duration = Duration::from_millis(300);
const FIRST_STREAM_DEADLINE: Duration = Duration::from_secs(3);
const VALID_MAX: usize = 6;
const NANOS: u64 = 1_000_000_000;

/// A token that the tenant issued by an rpc.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) role: v1::Role,
    pub(super) jwt: String,
}

/// A tenant, and what is known of it.
pub(super) struct Tenant<'a> {
    pub(super) contract: &'a Contract,
    pub(super) name: String,
    pub(super) admin: String,
    pub(super) names: Names,
    words: Words,
    callers: Vec<Caller>,
    turn: Cell<usize>,
    /// Paths of the streams that do not end by themselves.
    endless: RefCell<BTreeSet<String>>,
    /// What its requests and answers hold.
    pub(super) values: RefCell<Values>,
    /// Requests that were served, by the path of their rpc.
    valid: RefCell<BTreeMap<String, Vec<DynamicMessage>>>,
    /// One for each role that there is.
    pub(super) issued: Vec<Issued>,
    /// One that was revoked.
    pub(super) revoked: String,
}

impl<'a> Tenant<'a> {
    /// One that has nothing yet. The same seed makes the same words.
    pub(super) fn new(
        contract: &'a Contract,
        installation: &Installation,
        name: &str,
        seed: u64,
    ) -> Self {
        let mut words = Words::new(seed);
        Self {
            contract,
            name: name.to_owned(),
            admin: installation.issue(name, "admin"),
            names: Names::new(&mut words),
            words,
            callers: installation.servers.iter().map(|address| Caller::new(address)).collect(),
            turn: Cell::new(0),
            endless: RefCell::default(),
            values: RefCell::default(),
            valid: RefCell::default(),
            issued: Vec::new(),
            revoked: String::new(),
        }
    }

    /// The next server.
    pub(super) fn caller(&self) -> &Caller {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        &self.callers[turn % self.callers.len()]
    }

    /// Calls as its administrator.
    pub(super) async fn call(&self, method: &Method, messages: Vec<Bytes>) -> Answer {
        let is_endless = self.endless.borrow().contains(&method.path);
        let deadline = match (method.is_stream(), is_endless) {
            (true, true) => STREAM_DEADLINE,
            (true, false) => FIRST_STREAM_DEADLINE,
            (false, _) => PATIENCE,
        };
        let (path, token) = (&method.path[..], Some(&self.admin[..]));
        let question = Question { path, token, messages, half_open: false, deadline };
        let answer = self.caller().ask(question).await;
        if method.is_stream() && answer.code.is_none() {
            self.endless.borrow_mut().insert(method.path.clone());
        }
        answer
    }

    /// Calls, and remembers what was asked and answered.
    pub(super) async fn call_and_note(&self, method: &Method, message: &DynamicMessage) -> Answer {
        let answer = self.call(method, vec![message.encode_to_vec().into()]).await;
        if answer.succeeded(method.is_stream()) {
            self.note(method, message, &answer);
        }
        answer
    }

    fn note(&self, method: &Method, message: &DynamicMessage, answer: &Answer) {
        let mut values = self.values.borrow_mut();
        values.take(message);
        for answered in decoded(&method.descriptor, answer) {
            values.take(&answered);
        }
        let mut valid = self.valid.borrow_mut();
        let of_method = valid.entry(method.path.clone()).or_default();
        if of_method.len() < VALID_MAX && !of_method.contains(message) {
            of_method.push(message.clone());
        }
    }

    /// Requests of an rpc that were served.
    pub(super) fn valid(&self, method: &Method) -> Vec<DynamicMessage> {
        self.valid.borrow().get(&method.path).cloned().unwrap_or_default()
    }

    /// Whether a request would end a token that the harness needs.
    pub(super) fn would_end_itself(&self, message: &DynamicMessage) -> bool {
        let bytes = message.encode_to_vec();
        let tokens = self.issued.iter().map(|one| &one.jwt).chain([&self.admin]);
        let ids = tokens.map(|token| token_id(token));
        let holds = |id: &str| bytes.windows(id.len()).any(|part| part == id.as_bytes());
        ids.into_iter().any(|id| holds(&id))
    }

    /// Asks in the types of the contract; it must be served, in the end.
    pub(super) async fn ask<A: Message + Default>(&self, name: &str, asked: &impl Message) -> A {
        let method = self.contract.method(name);
        let message = asked.encode_to_vec();
        let dynamic = DynamicMessage::decode(method.descriptor.input(), &message[..]);
        loop {
            let answer = self.call(method, vec![message.clone().into()]).await;
            match answer.code {
                Some(Code::Ok) => {
                    self.note(method, &dynamic.expect("it is of this type"), &answer);
                    return A::decode(answer.messages[0].clone()).expect("an answer of this type");
                }
                Some(Code::Unavailable | Code::ResourceExhausted) => {}
                code => panic!("{} asks {name}: {code:?} {}", self.name, answer.text),
            }
        }
    }

    /// Stores everything that there is to store, with logs around this time, and waits until all that
    /// follows of it is there.
    pub(super) async fn furnish(&mut self, time: u64) {
        self.quiet_built_in_rules().await;
        self.put_settings(time).await;
        for batch in data::batches(&mut self.words, &self.names, time) {
            let batch = Some(batch);
            let _: v1::IngestResponse = self.ask("Ingest", &v1::IngestRequest { batch }).await;
        }
        self.issue_tokens().await;
        self.until_stored(data::LOGS_STORED as u64).await;
        self.train(time).await;
        self.judge().await;
        self.act_on_incidents().await;
    }

    /// What they find depends on the moment at which they look.
    async fn quiet_built_in_rules(&self) {
        let rules: v1::ListRulesResponse = self.ask("ListRules", &v1::ListRulesRequest {}).await;
        for rule in rules.rules.iter().filter(|rule| rule.built_in) {
            let mut definition: Value = serde_json::from_str(&rule.definition).expect("JSON");
            definition["enabled"] = json!(false);
            let asked = v1::PutRuleRequest { definition: definition.to_string() };
            let message = asked.encode_to_vec().into();
            let answer = self.call(self.contract.method("PutRule"), vec![message]).await;
            assert!(answer.is_ok(), "{}", answer.text);
        }
    }

    async fn put_settings(&mut self, time: u64) {
        for definition in data::rules(&mut self.words, &self.names) {
            let asked = v1::PutRuleRequest { definition };
            let _: v1::PutRuleResponse = self.ask("PutRule", &asked).await;
        }
        for config in data::channels(&mut self.words) {
            let asked = v1::PutChannelRequest { config };
            let _: v1::PutChannelResponse = self.ask("PutChannel", &asked).await;
        }
        for silence in data::silences(&mut self.words, time) {
            let asked = v1::PutSilenceRequest { silence: Some(silence) };
            let _: v1::PutSilenceResponse = self.ask("PutSilence", &asked).await;
        }
        for deploy in data::deploys(&mut self.words, &self.names, time) {
            let asked = v1::MarkDeployRequest { deploy: Some(deploy) };
            let _: v1::MarkDeployResponse = self.ask("MarkDeploy", &asked).await;
        }
        let asked = v1::PutNotificationPolicyRequest { definition: data::policy(&mut self.words) };
        let _: v1::PutNotificationPolicyResponse = self.ask("PutNotificationPolicy", &asked).await;
    }

    /// One for each role, whichever there are, and one that is revoked.
    async fn issue_tokens(&mut self) {
        let request = self.contract.method("IssueToken").descriptor.input();
        let role = request.get_field_by_name("role").expect("a token has a role");
        let roles = role.kind().as_enum().expect("a role is an enumeration").clone();
        for role in roles.values().filter(|role| role.number() != 0) {
            let role = v1::Role::try_from(role.number()).expect("it is in the contract");
            let issued = self.issue("*".to_owned(), role).await;
            self.issued.push(Issued { role, jwt: issued.jwt });
        }
        for service in [self.words.open(), self.words.sealed()] {
            let issued = self.issue(service, v1::Role::Admin).await;
            let asked = v1::RevokeTokenRequest { token_id: token_id(&issued.jwt) };
            let _: v1::RevokeTokenResponse = self.ask("RevokeToken", &asked).await;
            self.revoked = issued.jwt;
        }
    }

    async fn issue(&self, service: String, role: v1::Role) -> v1::IssueTokenResponse {
        let asked = v1::IssueTokenRequest { service, role: role.into(), ttl_seconds: 0 };
        self.ask("IssueToken", &asked).await
    }

    /// Waits until so many logs are counted.
    pub(super) async fn until_stored(&self, logs: u64) {
        loop {
            let asked = v1::ListServicesRequest {};
            let listed: v1::ListServicesResponse = self.ask("ListServices", &asked).await;
            if listed.services.iter().map(|service| service.total).sum::<u64>() >= logs {
                return;
            }
        }
    }

    pub(super) async fn train(&self, time: u64) {
        let from_unix_nano = (time - 3_600 * NANOS) as i64;
        let range = Some(v1::TimeRange { from_unix_nano, to_unix_nano: 0 });
        for service in [String::new(), self.names.secret_service.clone()] {
            let asked = v1::TrainModelRequest { service, range, keep_running: false };
            let trained: v1::TrainModelResponse = self.ask("TrainModel", &asked).await;
            let model_id = trained.model.expect("a model").model_id;
            let asked = v1::PromoteModelRequest { model_id };
            let _: v1::PromoteModelResponse = self.ask("PromoteModel", &asked).await;
        }
    }

    async fn judge(&self) {
        let asked = v1::SearchLogsRequest { page_size: 2, ..v1::SearchLogsRequest::default() };
        let found: v1::SearchLogsResponse = self.ask("SearchLogs", &asked).await;
        let log_id = found.logs[0].id.clone();
        let asked = v1::GiveFeedbackRequest { log_id, is_anomaly: true };
        let _: v1::GiveFeedbackResponse = self.ask("GiveFeedback", &asked).await;
    }

    /// A rule finds something in a service.
    async fn act_on_incidents(&mut self) {
        let incident_id = loop {
            let asked = v1::ListIncidentsRequest::default();
            let listed: v1::ListIncidentsResponse = self.ask("ListIncidents", &asked).await;
            let is_firing = |one: &&v1::Incident| one.state() == v1::IncidentState::Firing;
            if let Some(incident) = listed.incidents.iter().find(is_firing) {
                break incident.incident_id.clone();
            }
        };
        let note = v1::Note { text: self.words.sealed() };
        let action = Some(v1::act_on_incident_request::Action::Note(note.clone()));
        let asked = v1::ActOnIncidentRequest { incident_id: incident_id.clone(), action };
        let _: v1::ActOnIncidentResponse = self.ask("ActOnIncident", &asked).await;
        loop {
            let asked = v1::GetIncidentRequest { incident_id: incident_id.clone() };
            let shown: v1::GetIncidentResponse = self.ask("GetIncident", &asked).await;
            let shown = shown.incident.unwrap_or_default();
            if shown.timeline.iter().any(|entry| entry.text == note.text) {
                return;
            }
        }
    }

    /// Much more of everything, and other sorts of it.
    pub(super) async fn grow(&mut self, time: u64) {
        const BATCHES: usize = 12;
        const LOGS: usize = 500;
        for number in 0..BATCHES {
            let other = self.words.sealed();
            let service = if number.is_multiple_of(2) { &self.names.service } else { &other };
            let batch = Some(data::batch(&mut self.words, &self.names, service, time, LOGS));
            let _: v1::IngestResponse = self.ask("Ingest", &v1::IngestRequest { batch }).await;
        }
        for _ in 0..4 {
            self.put_settings(time).await;
            let service = self.words.sealed();
            self.issue(service, v1::Role::Viewer).await;
        }
        self.until_stored((data::LOGS_STORED + BATCHES * LOGS) as u64).await;
        self.train(time).await;
    }

    /// A batch of a few logs, for who keeps sending.
    pub(super) fn small_batch(&mut self, time: u64) -> v1::IngestRequest {
        let service = self.names.service.clone();
        let batch = Some(data::batch(&mut self.words, &self.names, &service, time, 20));
        v1::IngestRequest { batch }
    }
}

/// The messages of an answer.
pub(super) fn decoded(method: &MethodDescriptor, answer: &Answer) -> Vec<DynamicMessage> {
    let read = |bytes: &Bytes| DynamicMessage::decode(method.output(), bytes.clone()).ok();
    answer.messages.iter().filter_map(read).collect()
}
