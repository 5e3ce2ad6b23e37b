//! A server on a free port, over a real queue and a real storage in a directory of its own. In
//! place of the processor, batches are stored as they are, under one template.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use logweir_core::{
    identity::{Role, ServiceScope, TemplateId, Tenant},
    record::{Batch, RejectedRecord, ScoredBatch, ScoredRecord, Template},
    runtime::{
        clock::Clock,
        identity::ProcessIdentity,
        tasks::{Fate, Tasks},
        telemetry::Metrics,
    },
    timestamp::Timestamp,
};
use logweir_proto::v1::{
    self, admin_service_client::AdminServiceClient, ingest_service_client::IngestServiceClient,
    query_service_client::QueryServiceClient,
};
use logweir_queue::{Consumer, InProcessQueue, LiveFeed, Publisher, QueueLimits};
use logweir_server::{Listeners, Ports, ServerConfig, Tls, TokenKeys, issue};
use logweir_storage::{SqliteConfig, SqliteStorage, WriteLogs};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{
    Request, Status,
    transport::{Channel, ClientTlsConfig},
};
use tonic_types::StatusExt;

/// What the server's clock says.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_760_000_000);

/// The template of every log.
const TEMPLATE: TemplateId = TemplateId(7);

/// What the server and its client have in their files.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) keys: Option<TokenKeys>,
    pub(crate) tls: Option<Tls>,
    pub(crate) client: Option<ClientTlsConfig>,
}

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) tasks: Tasks,
    pub(crate) channel: Channel,
    pub(crate) storage: Arc<SqliteStorage>,
    keys: TokenKeys,
    publisher: Arc<dyn Publisher>,
    /// Whether batches are stored as they come, or wait.
    storing: watch::Sender<bool>,
    served: watch::Receiver<bool>,
    _directory: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(ServerConfig::default(), QueueLimits::default()).await
    }

    pub(crate) async fn with(config: ServerConfig, queue: QueueLimits) -> Self {
        Self::start(config, queue, Secrets::default()).await
    }

    /// Starts the server alone with these secrets; connects plainly, or within TLS as said.
    pub(crate) async fn start(config: ServerConfig, queue: QueueLimits, secrets: Secrets) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Clock = Arc::new(|| NOW);
        let storage = SqliteConfig::new(directory.path().join("data"));
        let storage = Arc::new(SqliteStorage::open(&storage, Arc::clone(&clock)).unwrap());
        let keys = secrets.keys.unwrap_or_else(TokenKeys::generate);
        let (publisher, consumer) = InProcessQueue::open(queue);
        let (closed, live_feed) = (Arc::clone(&publisher), LiveFeed::default());
        let tasks = Tasks::new();
        let (storing, may_store) = watch::channel(true);
        let store = Store { storage: storage.clone(), live_feed: live_feed.clone(), may_store };
        tasks.spawn("store", Fate::MayEnd, store.run(consumer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (done, served) = watch::channel(false);
        let ports = Ports {
            publisher,
            storage: storage.clone(),
            live_feed,
            token_keys: keys.clone(),
            tls: secrets.tls,
            identity: Some(ProcessIdentity::new("server", &clock)),
            partitions: 2,
            metrics: Metrics::detached(),
        };
        let listeners = Listeners { http: vec![listener], syslog: None };
        let serving = tasks.clone();
        tasks.spawn("server", Fate::MayEnd, async move {
            logweir_server::run(config, ports, listeners, &serving, clock).await.unwrap();
            done.send_replace(true);
        });
        let endpoint = match secrets.client {
            None => Channel::from_shared(format!("http://{address}")).unwrap(),
            Some(client) => {
                let endpoint = Channel::from_shared(format!("https://{address}")).unwrap();
                endpoint.tls_config(client).unwrap()
            }
        };
        let channel = endpoint.connect_lazy();
        let _directory = directory;
        let publisher = closed;
        Self { address, tasks, channel, storage, keys, publisher, storing, served, _directory }
    }

    /// A connection of its own, without TLS.
    pub(crate) fn another_channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    pub(crate) fn token(&self, tenant: &str, service: &str, role: Role) -> String {
        let scope: ServiceScope = service.parse().unwrap();
        let tenant = Tenant::new(tenant).unwrap();
        issue(&self.keys, &tenant, &scope, role, Duration::from_secs(3_600), NOW).1
    }

    pub(crate) fn expired_token(&self) -> String {
        let hours_ago = NOW - Duration::from_secs(7_200);
        let scope = ServiceScope::Any;
        let ttl = Duration::from_secs(3_600);
        issue(&self.keys, &Tenant::default(), &scope, Role::Admin, ttl, hours_ago).1
    }

    /// A token of the default tenant that may do anything.
    pub(crate) fn admin(&self) -> String {
        self.token("default", "*", Role::Admin)
    }

    pub(crate) fn ingest(&self) -> IngestServiceClient<Channel> {
        IngestServiceClient::new(self.channel.clone())
    }

    pub(crate) fn query(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel.clone())
    }

    pub(crate) fn administer(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Sends a batch with the token of an administrator.
    pub(crate) async fn send(&self, batch: v1::Batch) -> Result<v1::IngestResponse, Status> {
        self.send_with(&self.admin(), batch).await
    }

    pub(crate) async fn send_with(
        &self,
        token: &str,
        batch: v1::Batch,
    ) -> Result<v1::IngestResponse, Status> {
        let request = with_token(token, v1::IngestRequest { batch: Some(batch) });
        Ok(self.ingest().ingest(request).await?.into_inner())
    }

    /// An answer over plain HTTP/1.1.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_with(method, path, headers, "").await
    }

    /// The same with a body.
    pub(crate) async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let bytes = body.len().to_string();
        let length = (!body.is_empty()).then_some(("content-length", bytes.as_str()));
        let headers = headers.iter().copied().chain(length);
        let headers = headers.map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            self.address
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        Answer::read(&answer)
    }

    /// Every log of the default tenant, newest first.
    pub(crate) async fn stored(&self) -> Vec<v1::LogEntry> {
        let request = v1::SearchLogsRequest { page_size: 1_000, ..Default::default() };
        let request = with_token(&self.admin(), request);
        self.query().search_logs(request).await.unwrap().into_inner().logs
    }

    /// Refuses batches from now on, as when the process ends.
    pub(crate) fn close_queue(&self) {
        self.publisher.close();
    }

    /// Lets batches wait unstored, or go on.
    pub(crate) fn set_storing(&self, storing: bool) {
        self.storing.send_replace(storing);
    }

    /// Waits until the server has drained.
    pub(crate) async fn served(&mut self) {
        self.served.wait_for(|done| *done).await.unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// What came back over plain HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let pairs = self.head.lines().filter_map(|line| line.split_once(": "));
        pairs
            .into_iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

struct Store {
    storage: Arc<SqliteStorage>,
    live_feed: LiveFeed,
    may_store: watch::Receiver<bool>,
}

impl Store {
    async fn run(mut self, mut consumer: Box<dyn Consumer>) {
        while let Some(delivery) = consumer.receive().await {
            if self.may_store.wait_for(|storing| *storing).await.is_err() {
                return;
            }
            let (batch, settlement) = delivery.into_parts();
            let (tenant, scored) = (batch.tenant.clone(), scored(batch));
            let logs = scored.stored_logs();
            self.storage.write(vec![scored].into()).await.unwrap();
            self.live_feed.publish(tenant, logs);
            settlement.acknowledge();
        }
    }
}

fn scored(batch: Batch) -> ScoredBatch {
    let template = Template {
        template_id: TEMPLATE,
        tenant: batch.tenant.clone(),
        service: batch.resource.service.clone(),
        pattern: "any".into(),
        merged_into: None,
        is_merger: false,
    };
    let records = batch.records.into_iter().map(|record| ScoredRecord {
        level: record.level.unwrap_or_default(),
        record,
        template_id: TEMPLATE,
        anomaly_score: 0.0,
        is_anomaly: false,
        anomaly_reasons: Vec::new(),
    });
    let rejected: Vec<RejectedRecord> = batch.rejected;
    ScoredBatch {
        tenant: batch.tenant,
        batch_id: batch.batch_id,
        checksum: batch.checksum,
        received_at: batch.received_at,
        producer: batch.producer,
        resource: batch.resource,
        records: records.collect(),
        rejected,
        templates: HashMap::from([(TEMPLATE, Arc::new(template))]),
    }
}

pub(crate) fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

/// A batch of `payments` with these messages, one second apart, the last one now.
pub(crate) fn batch(id: u8, messages: &[&str]) -> v1::Batch {
    let newest = NOW.as_unix_nanos() as u64;
    let count = messages.len() as u64;
    let record = |(position, message): (u64, &&str)| v1::LogRecord {
        time_unix_nano: newest - (count - 1 - position) * 1_000_000_000,
        level: v1::Level::Info.into(),
        message: (*message).to_owned(),
        ..v1::LogRecord::default()
    };
    v1::Batch {
        batch_id: vec![id; 16],
        producer: None,
        resource: Some(v1::Resource { service: "payments".into(), ..Default::default() }),
        records: (0..).zip(messages).map(record).collect(),
    }
}

pub(crate) fn messages(logs: &[v1::LogEntry]) -> Vec<&str> {
    logs.iter().map(|log| log.record.as_ref().unwrap().message.as_str()).collect()
}

pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(String::new, |info| info.reason)
}
